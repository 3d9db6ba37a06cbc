"""Split name into first_name and last_name."""

from dynamodt import without

sequence = 2


def transform_up(item):
    first, _, last = item["name"].partition(" ")
    return {**item, "first_name": first, "last_name": last}


def transform_down(item):
    return without(item, "first_name", "last_name")
