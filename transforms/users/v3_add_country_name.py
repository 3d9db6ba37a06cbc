"""Add the country's name beside its code."""

import csv

from dynamodt import without

sequence = 3


def prepare(context):
    with open(context.folder / "countries.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["code"], row["name"]


def transform_up(item, prepared):
    # A code that is not in the file raises KeyError: the item becomes a dead letter.
    return {**item, "country_name": prepared[item["country"]]}


def transform_down(item):
    return without(item, "country_name")
