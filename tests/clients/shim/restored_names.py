"""Names that Python took away after these clients were written, put back, so that their code runs as published.

A `.pth` file in each virtual environment imports this before anything else. It is not called `sitecustomize`, because
Debian's own module of that name lies in the standard library and comes first.
"""

import collections
import collections.abc

for name in ("Callable", "Hashable", "Iterable", "Mapping", "MutableMapping", "Sequence", "Set"):
    if not hasattr(collections, name):
        setattr(collections, name, getattr(collections.abc, name))
