"""The assortment of the shop: the category tree, and the features of products in each leaf."""

from __future__ import annotations

from typing import Any, NamedTuple


class Leaf(NamedTuple):
    """A leaf category.

    `price`: lowest and highest, EUR. `weight`: lowest and highest, grams. `goes_with`: the leaf
    whose products are often in the same baskets.
    """

    nouns: str
    price: tuple[float, float]
    weight: tuple[int, int]
    attributes: dict[str, tuple[Any, ...]]
    goes_with: str = ""


class Department(NamedTuple):
    """A top category: the share of returned lines, the tax rate in 1/10,000, and the leaves."""

    return_share: float
    tax_rate: int
    leaves: dict[str, Leaf]


_COLOURS = ("black", "white", "navy", "sand", "forest green", "crimson")
_SIZES = ("XS", "S", "M", "L", "XL")
_SHOES = (36, 38, 40, 42, 44, 46)

DEPARTMENTS = {
    "Electronics": Department(
        0.080,
        1900,
        {
            "Laptops": Leaf(
                "Notebook,Ultrabook,Workstation",
                (449, 2199),
                (1000, 2600),
                {
                    "screen_inches": (13.3, 14.0, 15.6, 16.0),
                    "ram_gb": (8, 16, 32),
                    "storage": ("512 GB", "1 TB"),
                },
                "Laptop accessories",
            ),
            "Laptop accessories": Leaf(
                "Sleeve,Wireless mouse,USB-C dock,Cooling stand",
                (14, 149),
                (80, 900),
                {"colour": _COLOURS, "wireless": (True, False)},
                "Laptops",
            ),
            "Phones": Leaf(
                "Smartphone,Phone",
                (179, 1199),
                (150, 240),
                {"colour": _COLOURS, "storage": ("128 GB", "256 GB"), "dual_sim": (True, False)},
                "Phone accessories",
            ),
            "Phone accessories": Leaf(
                "Case,Screen protector,Charger,Power bank",
                (7, 59),
                (30, 400),
                {"colour": _COLOURS},
                "Phones",
            ),
            "Audio": Leaf(
                "Headphones,Earbuds,Speaker,Soundbar",
                (25, 399),
                (50, 3500),
                {"battery_hours": (6, 12, 24, 40), "noise_cancelling": (True, False)},
            ),
        },
    ),
    "Home": Department(
        0.060,
        1900,
        {
            "Coffee machines": Leaf(
                "Espresso machine,Filter machine,Grinder",
                (39, 899),
                (1500, 9000),
                {"pressure_bar": (9, 15, 19), "milk_frother": (True, False)},
                "Coffee",
            ),
            "Cookware": Leaf(
                "Frying pan,Casserole,Saucepan,Wok",
                (15, 189),
                (600, 4200),
                {"diameter_cm": (20, 24, 28), "induction": (True, False)},
                "Knives and boards",
            ),
            "Knives and boards": Leaf(
                "Chef’s knife,Paring knife,Cutting board",
                (9, 159),
                (90, 1800),
                {"material": ("steel", "ceramic", "oak", "walnut")},
                "Cookware",
            ),
            "Bedding": Leaf(
                "Duvet,Pillow,Bed linen",
                (19, 229),
                (500, 3000),
                {"size_cm": ("135×200", "155×220", "200×200")},
            ),
            "Lighting": Leaf(
                "Desk lamp,Floor lamp,Pendant",
                (19, 349),
                (400, 6000),
                {"lumen": (400, 800, 1600), "dimmable": (True, False)},
            ),
        },
    ),
    "Fashion": Department(
        0.085,
        1900,
        {
            "Shirts": Leaf(
                "Shirt,Blouse,Polo",
                (19, 89),
                (150, 350),
                {"colour": _COLOURS, "size": _SIZES},
                "Trousers",
            ),
            "Trousers": Leaf(
                "Chinos,Jeans,Trousers",
                (35, 139),
                (400, 800),
                {"colour": _COLOURS, "size": _SIZES},
                "Belts",
            ),
            "Belts": Leaf(
                "Belt,Braces", (15, 69), (100, 350), {"length_cm": (85, 95, 105)}, "Trousers"
            ),
            "Shoes": Leaf(
                "Sneakers,Boots,Loafers",
                (49, 229),
                (600, 1600),
                {"size": _SHOES, "colour": _COLOURS},
                "Shoe care",
            ),
            "Shoe care": Leaf(
                "Shoe polish,Brush,Shoe tree", (5, 39), (60, 600), {"suede": (True, False)}, "Shoes"
            ),
        },
    ),
    "Sports": Department(
        0.070,
        1900,
        {
            "Running shoes": Leaf(
                "Running shoe,Trail shoe",
                (69, 199),
                (400, 750),
                {"size": _SHOES, "drop_mm": (4, 8, 10)},
                "Running clothes",
            ),
            "Running clothes": Leaf(
                "Running socks,Running shirt,Tights",
                (12, 89),
                (60, 300),
                {"size": _SIZES, "colour": _COLOURS},
                "Running shoes",
            ),
            "Yoga": Leaf(
                "Yoga mat,Block,Strap",
                (9, 89),
                (100, 2500),
                {"thickness_mm": (3, 5, 8), "colour": _COLOURS},
            ),
            "Cycling": Leaf(
                "Helmet,Bike light,Lock,Pump", (15, 159), (100, 1500), {"colour": _COLOURS}
            ),
            "Camping": Leaf(
                "Tent,Sleeping bag,Stove",
                (29, 499),
                (400, 5000),
                {"persons": (1, 2, 4), "season": (2, 3, 4)},
            ),
        },
    ),
    "Beauty": Department(
        0.052,
        1900,
        {
            "Skin care": Leaf(
                "Day cream,Serum,Cleanser",
                (8, 89),
                (60, 300),
                {"skin": ("dry", "oily", "sensitive"), "volume_ml": (30, 50)},
            ),
            "Hair care": Leaf(
                "Shampoo,Conditioner,Hair oil",
                (5, 39),
                (200, 700),
                {"volume_ml": (250, 500)},
                "Skin care",
            ),
            "Perfume": Leaf(
                "Eau de parfum,Eau de toilette", (29, 159), (150, 400), {"volume_ml": (30, 50, 100)}
            ),
            "Shaving": Leaf(
                "Razor,Shaving soap,Blades", (6, 129), (50, 400), {"blades": (2, 3, 5)}
            ),
            "Oral care": Leaf(
                "Toothbrush,Toothpaste", (4, 149), (50, 500), {"electric": (True, False)}
            ),
        },
    ),
    "Books": Department(
        0.050,
        700,
        {
            "Novels": Leaf(
                "novel",
                (9, 28),
                (250, 700),
                {"pages": (180, 320, 512), "language": ("de", "en", "fr")},
            ),
            "Cookbooks": Leaf(
                "cookbook", (15, 45), (700, 1800), {"pages": (160, 240, 400)}, "Cookware"
            ),
            "Travel guides": Leaf(
                "travel guide", (12, 30), (300, 600), {"pages": (200, 400)}, "Camping"
            ),
            "Children’s books": Leaf(
                "picture book", (8, 22), (200, 600), {"age_from": (2, 4, 6)}, "Toys"
            ),
            "Comics": Leaf("comic,manga", (6, 35), (150, 900), {"volume": (1, 2, 3, 12)}),
        },
    ),
    "Groceries": Department(
        0.050,
        700,
        {
            "Coffee": Leaf(
                "espresso beans,filter coffee,coffee pods",
                (5, 29),
                (250, 1000),
                {"organic": (True, False), "roast": ("light", "medium", "dark")},
                "Chocolate",
            ),
            "Tea": Leaf(
                "green tea,black tea,herbal tea",
                (3, 24),
                (50, 250),
                {"organic": (True, False)},
                "Chocolate",
            ),
            "Chocolate": Leaf(
                "dark chocolate,pralines",
                (3, 35),
                (100, 500),
                {"cocoa_pct": (37, 55, 70, 85)},
                "Coffee",
            ),
            "Olive oil": Leaf(
                "olive oil", (7, 39), (500, 1200), {"volume_ml": (500, 750, 1000)}, "Pasta"
            ),
            "Pasta": Leaf(
                "spaghetti,penne,tagliatelle",
                (2, 9),
                (500, 1000),
                {"organic": (True, False)},
                "Olive oil",
            ),
        },
    ),
    "Toys": Department(
        0.058,
        1900,
        {
            "Toys": Leaf(
                "Wooden train,Doll,Kite",
                (9, 89),
                (200, 2500),
                {"age_from": (1, 3, 6)},
                "Children’s books",
            ),
            "Board games": Leaf(
                "board game,card game",
                (12, 69),
                (200, 2800),
                {"players": ("2–4", "2–6"), "minutes": (30, 60, 120)},
            ),
            "Building sets": Leaf(
                "Building set", (15, 249), (300, 4000), {"pieces": (120, 480, 1500)}
            ),
            "Puzzles": Leaf(
                "Jigsaw puzzle", (9, 45), (400, 1500), {"pieces": (500, 1000, 2000)}, "Board games"
            ),
            "Art supplies": Leaf(
                "Watercolours,Sketchbook,Brush set", (5, 79), (100, 1500), {"colours": (12, 24, 48)}
            ),
        },
    ),
}
"""The departments. Leaf names are unique over all of them."""
