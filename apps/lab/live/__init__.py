"""The live page: a mail is written on the left, two phones ring on the right."""
