"""Pages and tables made from the registry and recorded results."""
