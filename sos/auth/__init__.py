"""Authentication and authorization: tokens, signed requests and URLs, and guards."""
