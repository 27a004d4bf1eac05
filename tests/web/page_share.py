"""A link of a client's page, and the hands that draw on it."""

from __future__ import annotations

from page_hands import drawn, fingers
from page_studio import until
from playwright.sync_api import expect

from danqing.spec.project import Brief
from danqing.spec.request import parse_request
from danqing.spec.share import ShareOrder
from danqing.store.projects_base import ReviewQuery, Tie

SIDE_PX = 64  # of the fake painter's pictures
RING = [(40, 20), (52, 24), (56, 36), (50, 48), (38, 50), (30, 40), (32, 26), (39, 20)]


class Link:
    """A project with one version behind a link of its own."""

    def __init__(self, house, **order):
        self.studio = house.studio
        brief = Brief(words="a poster <b>for spring</b>", palette=("#c8372d",), do=("leave room",))
        self.project = self.studio.create_project("Tea house", brief).id
        self.first = self.paint(seed=3)
        made = self.studio.create_share(self.project, ShareOrder(**{"name": "Drafts", "follow": True, **order}))
        self.share, self.address = made.share.id, f"{house.address}{made.path}"

    def paint(self, **fields):
        request = parse_request({"prompt": "red apple, 3d", "width_px": SIDE_PX, "height_px": SIDE_PX, **fields})
        job = self.studio.submit(request, tie=Tie(self.project))
        return self.studio.wait(job.id, timeout_s=60).records[0]

    @property
    def reviews(self):
        return self.studio.reviews(ReviewQuery(share=self.share))

    def told(self, count=1):
        until(lambda: len(self.reviews) == count, f"there are not {count} reviews")
        return self.reviews


def on_screen(page, x, y):
    """Where a place of the picture is in the window."""
    box = page.locator(".world").bounding_box()
    return box["x"] + x * box["width"] / SIDE_PX, box["y"] + y * box["height"] / SIDE_PX


def by_mouse(page, tool, points):
    page.click(f"[data-tool={tool}]")
    page.mouse.move(*on_screen(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*on_screen(page, *point), steps=3)
    page.mouse.up()


class Fingers:
    """Touches as a screen sends them."""

    def __init__(self, page):
        self.page = page
        self.send = fingers(page)

    def draw(self, tool, points):
        self.page.tap(f"[data-tool={tool}]")
        self.page.evaluate("scrollTo(0, 0)")
        places = [on_screen(self.page, *point) for point in points]
        self.send("touchStart", places[0])
        for place in places[1:]:
            self.send("touchMove", place)
            drawn(self.page)  # a finger is never faster than the screen
        self.send("touchEnd")

    def pinch(self, wide, wider):
        x, y = on_screen(self.page, 32, 32)
        self.send("touchStart", (x - wide, y), (x + wide, y))
        for step in range(1, 6):
            reach = wide + (wider - wide) * step / 5
            self.send("touchMove", (x - reach, y), (x + reach, y))
        self.send("touchEnd")


def near(box, wanted, by=2):
    found = (box.left_px, box.top_px, box.right_px, box.bottom_px)
    return all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))


def write(page, number, text):
    page.fill(f".mark:nth-child({number}) textarea", text)


def sign(page, name="Mei"):
    page.fill("#name", name)


def send(page):
    page.click(".sendbar .primary")


def sent(page):
    expect(page.locator(".sendbar .what")).to_contain_text("Sent. Thank you, Mei!")


def stored(page):
    return page.evaluate(
        "JSON.parse(Object.entries(localStorage).find(([name]) => name !== 'danqing.share.theme')?.[1] ?? 'null')"
    )
