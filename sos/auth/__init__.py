"""Who may do what: tokens, signed requests and URLs, and the guards that check them."""
