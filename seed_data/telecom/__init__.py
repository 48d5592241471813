"""The mobile operator: CRM, billing, charging and signaling in MySQL, and files about
roaming.
"""

from seed_data.common.model import LineSeed
from seed_data.telecom.generator import generate
from seed_data.telecom.traffic import TelecomTraffic

SEED = LineSeed(generate, TelecomTraffic)
