"""Structure operations as values, and the store that runs them."""
