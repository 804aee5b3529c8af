"""HTTP to service call. Request models stand above their route."""
