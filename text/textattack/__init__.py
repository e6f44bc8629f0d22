"""TextAttack both ways: its attacks here, Carom's attacks there."""
