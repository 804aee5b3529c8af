"""What the recipient sees: enrolment, the message page and the service worker. Pixels only."""
