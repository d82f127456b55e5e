"""The claims of the papers, measured again (the ledger): ``latentlab claims`` prints what is recorded."""

from latentlab.claims.finding import Claim, Finding
from latentlab.claims.ledger import CLAIMS, measure, recorded, table, write

__all__ = ["CLAIMS", "Claim", "Finding", "measure", "recorded", "table", "write"]
