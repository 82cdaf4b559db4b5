"""Lists of small objects come, most of them stay and some go, until it is killed."""
import random

kept = []
while True:
    kept.append([bytearray(random.randrange(1, 3000)) for i in range(300)])
    if len(kept) > 60:
        kept.pop(random.randrange(len(kept)))
