"""The aggregates of the mobile operator."""
