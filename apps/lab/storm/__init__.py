"""`make storm`: an Exchange restart forgets all subscriptions; does their repair disturb others?"""
