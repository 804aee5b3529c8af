"""People and groups over HTTP: add, read, change, find, remove."""

from tests.conftest import Stack


def test_a_persons_life(stack: Stack) -> None:
    stack.call("POST", "groups", 201, json={"name": "Life"})
    body = {"name": "Amina Adeyemi", "external_id": "life-1", "contacts": {"sms": ["+447700900123"]}, "groups": ["Life"]}
    answer = stack.call("POST", "recipients", 201, json={**body, "tags": {"role": "nurse", "site": ["A", "B"]}})
    made = answer.json()
    assert answer.headers["Location"] == f"/api/v1/recipients/{made['id']}"
    assert made["tags"] == {"role": ["nurse"], "site": ["A", "B"]}
    assert "+447700900123" not in answer.text
    path = f"recipients/{made['id']}"
    assert stack.json("GET", path, 200) == made
    stack.call("POST", "recipients", 409, json={"name": "Another", "external_id": "life-1"})
    changed = stack.json("PATCH", path, 200, json={"name": "Amina A.", "contacts": {"sms": ["+447700900456"]}})
    assert changed["name"] == "Amina A."
    assert changed["contacts"][0]["id"] != made["contacts"][0]["id"]
    assert (changed["tags"], changed["groups"], changed["external_id"]) == (made["tags"], made["groups"], "life-1")
    stack.call("PATCH", path, 422, json={"groups": ["No such group"]})
    stack.call("DELETE", path, 204)
    for method in ("GET", "DELETE"):
        stack.call(method, path, 404)
    stack.call("POST", "recipients", 201, json={"name": "Successor", "external_id": "life-1"})


def test_an_empty_list_takes_a_channels_addresses_away(stack: Stack) -> None:
    made = stack.json(
        "POST", "recipients", 201, json={"name": "A", "contacts": {"sms": ["+447700900123"], "slack": ["U0A1B2C3D"]}}
    )
    changed = stack.json("PATCH", f"recipients/{made['id']}", 200, json={"contacts": {"sms": []}})
    assert [c["channel"] for c in changed["contacts"]] == ["slack"]


def test_people_are_found_by_name_number_tag_and_group_page_by_page(stack: Stack) -> None:
    stack.call("POST", "groups", 201, json={"name": "Finders"})
    ids = []
    for n in range(5):
        body = {"name": f"Zoë_{n} % Finder", "external_id": f"find-{n}", "tags": {"find": str(n % 2)}, "groups": ["Finders"]}
        ids.append(stack.json("POST", "recipients", 201, json=body)["id"])

    def find(**query: str) -> list[str]:
        found, cursor = list[str](), ""
        while True:
            page = stack.json(
                "GET", "recipients", 200, params={**query, "limit": "2", **({"cursor": cursor} if cursor else {})}
            )
            found += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    assert find(q="% finder") == ids
    assert find(q="_3 %") == [ids[3]]
    assert find(q="find-4") == [ids[4]]
    assert find(tag="find:1") == [ids[1], ids[3]]
    assert find(group="Finders", tag="find:0") == [ids[0], ids[2], ids[4]]
    assert find(q="nobody of this name") == []


def test_letters_beyond_ascii_are_found_as_typed(stack: Stack) -> None:
    made = stack.json("POST", "recipients", 201, json={"name": "Élodie Ångström"})
    found = stack.json("GET", "recipients", 200, params={"q": "Élodie Å"})["items"]
    assert [item["id"] for item in found] == [made["id"]]


def test_a_groups_life(stack: Stack) -> None:
    made = stack.json("POST", "groups", 201, json={"name": "Night", "description": "After eight"})
    path = f"groups/{made['id']}"
    assert stack.json("GET", path, 200) == made
    stack.call("POST", "groups", 409, json={"name": "Night"})
    other = stack.json("POST", "groups", 201, json={"name": "Day"})
    stack.call("PATCH", f"groups/{other['id']}", 409, json={"name": "Night"})
    person = stack.json("POST", "recipients", 201, json={"name": "Member"})["id"]
    for _ in range(2):  # again is harmless
        stack.call("PUT", f"{path}/members/{person}", 204)
    assert stack.json("GET", path, 200)["members"] == 1
    assert [m["id"] for m in stack.json("GET", f"{path}/members", 200)["items"]] == [person]
    assert stack.json("PATCH", path, 200, json={"name": "Nights"})["name"] == "Nights"
    assert {"Nights", "Day"} <= {g["name"] for g in stack.json("GET", "groups", 200, params={"limit": "500"})["items"]}
    stack.call("PUT", f"{path}/members/nobody", 404)
    stack.call("DELETE", f"{path}/members/{person}", 204)
    assert stack.json("GET", f"{path}/members", 200)["items"] == []
    stack.call("PUT", f"{path}/members/{person}", 204)
    stack.call("DELETE", path, 204)
    stack.call("GET", path, 404)
    assert stack.json("GET", f"recipients/{person}", 200)["groups"] == []
