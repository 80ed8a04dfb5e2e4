"""Jobs that can be stopped from the site."""
