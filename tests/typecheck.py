"""The type checker that jaxtyping puts around every function of latentlab while tests run.

As PEP 484 has it, and unlike beartype's default, an int passes for a float: `inv.edit(age, 2)` is sound.
"""

from beartype import BeartypeConf
from beartype import beartype as plain

beartype = plain(conf=BeartypeConf(is_pep484_tower=True))
