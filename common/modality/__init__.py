"""What a kind of input brings to the shared machinery, and how it is found."""
