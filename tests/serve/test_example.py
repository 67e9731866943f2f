"""The example of docs/how-to-add/surface.md, mounted in a running house."""

from examples.new_surface.plain import surface
from lifechart.serve.surfaces import Surface
from tests.serve.house import Hospital


def test_plain_text_for_those_who_may(place: Hospital) -> None:
    assert isinstance(surface, Surface)
    place.app.include_router(surface.router)
    assert place.client.get("/plain/ines", follow_redirects=False).status_code == 303
    place.sign_in()
    assert "Heart failure within 1 year: 20% (14% to 28%)" in place.client.get("/plain/ines").text
    assert place.statements("answer")[-1].predicate["outlet"] == "plain"
    place.switch(False, "for a while")
    assert place.client.get("/plain/ines").text == "This has been switched off: for a while\n"
