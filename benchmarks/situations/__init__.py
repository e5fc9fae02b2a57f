"""What happens in real companies' orgs, each situation played against the stand-ins: expected and seen."""
