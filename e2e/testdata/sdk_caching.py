"""Reads a secret through AWS's caching client and prints its value whenever it
has become another one. It is configured by the environment alone, and told
only to look for a rotation every second in place of every hour."""

import sys
import time

from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

cache = SecretCache(SecretCacheConfig(secret_refresh_interval=1))
last = None
while True:
    value = cache.get_secret_string(sys.argv[1])
    if value != last:
        print("value", value, flush=True)
        last = value
    time.sleep(0.05)
