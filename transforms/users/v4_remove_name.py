"""Remove name: all code reads first_name and last_name by now."""

from dynamodt import without

sequence = 4


def transform_up(item):
    return without(item, "name")


def transform_down(item):
    first, last = item["first_name"], item["last_name"]
    return {**item, "name": f"{first} {last}" if last else first}
