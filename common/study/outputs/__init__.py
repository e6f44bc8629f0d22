"""What a study leaves behind: sets of adversarial examples, tables, a summary, and the keys of its stored files."""
