"""Text models: loaded from anywhere, read by tokens, differentiated at words."""
