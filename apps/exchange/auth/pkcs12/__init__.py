"""Client certificates as phones get them: PKCS#12 (RFC 7292), which strangers may have made.

OpenSSL would open such a file, too, but runs as many rounds of key derivation as the file asks for,
also for what lies encrypted within what is encrypted. So it is opened here, layer by layer, and no
round is run before it is known how many there are to be:

- `ber.py`: ASN.1, since many are written with indefinite lengths;
- `ciphers.py`: what safes are encrypted with, and rounds in account;
- `rc2.py`: the cipher of old files, which `cryptography` knows with long keys only;
- `opening.py`: the certificate, its issuers and its key.
"""
