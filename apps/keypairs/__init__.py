"""RSA pairs, opening JWEs, sealing and shredding credentials."""
