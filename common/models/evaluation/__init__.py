"""How networks are evaluated while they are frozen: folded where that changes nothing, in whole blocks of rows."""
