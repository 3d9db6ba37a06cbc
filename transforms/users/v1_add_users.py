"""Add 1,000 made-up users."""

from datetime import date, timedelta
from itertools import product

sequence = 1

FIRST_NAMES = (
    "Acorn Amber Aspen Birch Bracken Cedar Clover Cobalt Coral Elder Ember Fern Flint Garnet Hazel Heather Indigo Ivy "
    "Jasper Juniper Larch Laurel Lichen Linden Maple Marble Moss Myrtle Oak Olive Onyx Opal Pebble Pepper Pine Quartz "
    "Rowan Sage Topaz Willow"
).split()
LAST_NAMES = (
    *"Anyname Demoson Dummy Examplesen Faketon Fictive Imaginary Invented Made-Up Mocksmith Nobody Noname".split(),
    *"Placeholder Pretend Sampleby Sampleton Somename Specimen Stand-In Template Testerson Testwell Trial".split(),
    "Untrue",
    "van der Sample",
)
COUNTRIES = "AR AT AU BR CA CH DE ES FI FR GB IN IT JP KE MX NL NZ PL US".split()
TAGS = "beta newsletter premium trial".split()


def items():
    for number, (first, last) in enumerate(product(FIRST_NAMES, LAST_NAMES), start=1):
        yield user(number, first, last)


def user(number, first, last):
    country = COUNTRIES[number % len(COUNTRIES)]
    return {
        "id": f"user-{number:04}",
        "name": f"{first} {last}",
        "email": f"{first}.{last.replace(' ', '-')}@example.com".lower(),
        "country": country,
        "signed_up": str(date(2024, 1, 1) + timedelta(days=number % 366)),
        "tags": {TAGS[number % 4], TAGS[number % 3]},
        "address": {"street": "Example Street", "number": number % 90 + 1, "country": country},
    }
