"""Optional sign-in with the company's directory: Active Directory, or OpenLDAP and the like."""
