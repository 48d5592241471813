"""Real places, where people live and stores are."""

from __future__ import annotations

from typing import NamedTuple


class Country(NamedTuple):
    """A country.

    `weight`: how many customers live there, relative to the other countries. `locale`: Faker's
    locale, for names and streets. `dial`: the calling code.
    """

    weight: int
    locale: str
    dial: str


class Place(NamedTuple):
    """A city.

    `postal`: its postal code, each `#` stands for a digit. `weight`: how many customers live there,
    relative to the other cities of the country.
    """

    country: str
    city: str
    region: str
    postal: str
    latitude: float
    longitude: float
    weight: int


COUNTRIES = {
    "DE": Country(34, "de_DE", "+49"),
    "FR": Country(18, "fr_FR", "+33"),
    "ES": Country(11, "es_ES", "+34"),
    "IT": Country(11, "it_IT", "+39"),
    "NL": Country(7, "nl_NL", "+31"),
    "AT": Country(6, "de_AT", "+43"),
    "PT": Country(4, "pt_PT", "+351"),
    "GR": Country(3, "el_GR", "+30"),
    "FI": Country(2, "fi_FI", "+358"),
    "IE": Country(2, "en_IE", "+353"),
    "JP": Country(1, "ja_JP", "+81"),
    "CN": Country(1, "zh_CN", "+86"),
}

ZONES = {
    "DE": ("Europe/Berlin", 1),
    "FR": ("Europe/Paris", 1),
    "ES": ("Europe/Madrid", 1),
    "IT": ("Europe/Rome", 1),
    "NL": ("Europe/Amsterdam", 1),
    "AT": ("Europe/Vienna", 1),
    "PT": ("Europe/Lisbon", 0),
    "GR": ("Europe/Athens", 2),
    "FI": ("Europe/Helsinki", 2),
    "IE": ("Europe/Dublin", 0),
    "JP": ("Asia/Tokyo", 9),
    "CN": ("Asia/Shanghai", 8),
}
"""Time zone of each country, and its hours ahead of UTC in winter."""

PLACES = (
    Place("DE", "Berlin", "Berlin", "10###", 52.52, 13.405, 37),
    Place("DE", "Hamburg", "Hamburg", "20###", 53.5511, 9.9937, 19),
    Place("DE", "München", "Bayern", "80###", 48.1351, 11.582, 15),
    Place("DE", "Köln", "Nordrhein-Westfalen", "50###", 50.9375, 6.9603, 11),
    Place("DE", "Frankfurt am Main", "Hessen", "60###", 50.1109, 8.6821, 8),
    Place("DE", "Stuttgart", "Baden-Württemberg", "70###", 48.7758, 9.1829, 6),
    Place("DE", "Düsseldorf", "Nordrhein-Westfalen", "40###", 51.2277, 6.7735, 6),
    Place("DE", "Leipzig", "Sachsen", "041##", 51.3397, 12.3731, 6),
    Place("DE", "Nürnberg", "Bayern", "90###", 49.4521, 11.0767, 5),
    Place("DE", "Münster", "Nordrhein-Westfalen", "481##", 51.9607, 7.6261, 3),
    Place("FR", "Paris", "Île-de-France", "750##", 48.8566, 2.3522, 22),
    Place("FR", "Marseille", "Provence-Alpes-Côte d’Azur", "130##", 43.2965, 5.3698, 9),
    Place("FR", "Lyon", "Auvergne-Rhône-Alpes", "690##", 45.764, 4.8357, 5),
    Place("FR", "Toulouse", "Occitanie", "310##", 43.6047, 1.4442, 5),
    Place("FR", "Nantes", "Pays de la Loire", "440##", 47.2184, -1.5536, 3),
    Place("FR", "Strasbourg", "Grand Est", "670##", 48.5734, 7.7521, 3),
    Place("FR", "Orléans", "Centre-Val de Loire", "450##", 47.9029, 1.9093, 1),
    Place("ES", "Madrid", "Comunidad de Madrid", "280##", 40.4168, -3.7038, 33),
    Place("ES", "Barcelona", "Cataluña", "080##", 41.3874, 2.1686, 16),
    Place("ES", "València", "Comunitat Valenciana", "460##", 39.4699, -0.3763, 8),
    Place("ES", "Sevilla", "Andalucía", "410##", 37.3891, -5.9845, 7),
    Place("ES", "Málaga", "Andalucía", "290##", 36.7213, -4.4214, 6),
    Place("ES", "A Coruña", "Galicia", "150##", 43.3623, -8.4115, 2),
    Place("IT", "Roma", "Lazio", "001##", 41.9028, 12.4964, 28),
    Place("IT", "Milano", "Lombardia", "201##", 45.4642, 9.19, 14),
    Place("IT", "Napoli", "Campania", "801##", 40.8518, 14.2681, 9),
    Place("IT", "Torino", "Piemonte", "101##", 45.0703, 7.6869, 8),
    Place("IT", "Bologna", "Emilia-Romagna", "401##", 44.4949, 11.3426, 4),
    Place("IT", "Forlì", "Emilia-Romagna", "471##", 44.2227, 12.0407, 1),
    Place("NL", "Amsterdam", "Noord-Holland", "10## AB", 52.3676, 4.9041, 9),
    Place("NL", "Rotterdam", "Zuid-Holland", "30## KD", 51.9244, 4.4777, 6),
    Place("NL", "Utrecht", "Utrecht", "35## GX", 52.0907, 5.1214, 4),
    Place("NL", "’s-Hertogenbosch", "Noord-Brabant", "52## VE", 51.6978, 5.3037, 2),
    Place("AT", "Wien", "Wien", "1##0", 48.2082, 16.3738, 20),
    Place("AT", "Graz", "Steiermark", "80##", 47.0707, 15.4395, 3),
    Place("AT", "Linz", "Oberösterreich", "40##", 48.3069, 14.2858, 2),
    Place("AT", "Sankt Pölten", "Niederösterreich", "31##", 48.2047, 15.6256, 1),
    Place("PT", "Lisboa", "Lisboa", "1###-001", 38.7223, -9.1393, 5),
    Place("PT", "Porto", "Porto", "4###-005", 41.1579, -8.6291, 3),
    Place("PT", "Évora", "Alentejo", "70##-502", 38.5714, -7.9135, 1),
    Place("GR", "Αθήνα", "Αττική", "10# 56", 37.9838, 23.7275, 7),
    Place("GR", "Θεσσαλονίκη", "Κεντρική Μακεδονία", "54# 22", 40.6401, 22.9444, 3),
    Place("FI", "Helsinki", "Uusimaa", "00##0", 60.1699, 24.9384, 6),
    Place("FI", "Jyväskylä", "Keski-Suomi", "40##0", 62.2426, 25.7473, 2),
    Place("IE", "Dublin", "Leinster", "D0# X285", 53.3498, -6.2603, 6),
    Place("IE", "Dún Laoghaire", "Leinster", "A96 E#C#", 53.294, -6.1339, 1),
    Place("JP", "東京", "東京都", "10#-00##", 35.6762, 139.6503, 4),
    Place("JP", "大阪", "大阪府", "53#-00##", 34.6937, 135.5023, 2),
    Place("CN", "上海", "上海市", "2000##", 31.2304, 121.4737, 3),
    Place("CN", "成都", "四川省", "6100##", 30.5728, 104.0668, 2),
)
