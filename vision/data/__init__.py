"""Images: built-in sets, folders, hubs."""
