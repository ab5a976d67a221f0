"""The public door: forwards the services, compares runs, watches them live, serves the web page."""
