"""The durable truth about decisions, outcomes, settlements and customers."""
