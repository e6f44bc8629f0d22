"""Units of work, the store that keeps them, and executors that compute them."""
