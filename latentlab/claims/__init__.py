"""The claims of the papers, measured again (the ledger): ``latentlab claims`` prints what is recorded."""

from latentlab.claims.finding import Claim, Finding
from latentlab.claims.ledger import CLAIMS, measure, recorded, remaining, table, write
from latentlab.claims.rule import Part, Rule

__all__ = ["CLAIMS", "Claim", "Finding", "Part", "Rule", "measure", "recorded", "remaining", "table", "write"]
