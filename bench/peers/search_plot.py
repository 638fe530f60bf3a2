"""Draws queries per second against recall as an SVG: what each engine reaches at a recall or
above."""

import math

from search_indexes import setting_key

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 900, 520, 70, 40, 270, 50
COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22",
          "#17becf", "#393b79", "#637939", "#8c6d31", "#843c39", "#7b4173", "#3182bd", "#e6550d"]
RECALL_MIN = 0.8


def front(engine, threads, batch):
    """(recall, queries per second) of settings that no other one beats in both."""
    best = {}
    for turn in engine["rounds"][:1]:
        for p in turn["points"]:
            if p["threads"] == threads and p["batch"] == batch:
                recall = engine["recall"][setting_key(p["setting"])]
                best[recall] = max(best.get(recall, 0), p["qps"])
    points, most = [], 0
    for recall in sorted(best, reverse=True):
        if best[recall] > most:
            most = best[recall]
            points.append((recall, most))
    return [p for p in points[::-1] if p[0] >= RECALL_MIN]


def place(recall, qps, low, high):
    x = LEFT + (recall - RECALL_MIN) / (1 - RECALL_MIN) * (WIDTH - LEFT - RIGHT)
    y = TOP + (high - math.log10(qps)) / (high - low) * (HEIGHT - TOP - BOTTOM)
    return x, y


def axes(title, low, high):
    parts = ['<text x="%d" y="22" font-size="16">%s</text>' % (LEFT, title)]
    for power in range(low, high + 1):
        x, y = place(RECALL_MIN, 10**power, low, high)
        parts.append('<path d="M%.1f %.1fH%d" stroke="#ddd"/><text x="%.1f" y="%.1f" '
                     'text-anchor="end">%s</text>' % (x, y, WIDTH - RIGHT, x - 6, y + 4,
                                                      format(10**power, ",")))
    for n in range(5):
        recall = RECALL_MIN + n * (1 - RECALL_MIN) / 4
        x, y = place(recall, 10**low, low, high)
        parts.append('<path d="M%.1f %.1fV%d" stroke="#ddd"/><text x="%.1f" y="%.1f" '
                     'text-anchor="middle">%.2f</text>' % (x, y, TOP, x, y + 18, recall))
    parts.append('<text x="%d" y="%d">recall@10; up: queries per second</text>' % (
        LEFT, HEIGHT - 10))
    return parts


def draw(size, title, threads, batch):
    """The whole SVG, or None where there is nothing to draw."""
    fronts = {name: front(e, threads, batch) for name, e in size["engines"].items() if e["rounds"]}
    fronts = {name: points for name, points in fronts.items() if points}
    if not fronts:
        return None
    values = [math.log10(q) for points in fronts.values() for _, q in points]
    low, high = math.floor(min(values)), math.ceil(max(values))
    high += low == high
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" '
             'font-size="12">' % (WIDTH, HEIGHT),
             '<rect width="100%" height="100%" fill="#fff"/>', *axes(title, low, high)]
    order = sorted(fronts, key=lambda name: (not name.startswith("akin"), -fronts[name][-1][1]))
    for n, name in enumerate(order):
        own = name.startswith("akin")
        color = COLORS[n % len(COLORS)]
        spots = [place(r, q, low, high) for r, q in fronts[name]]
        parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="%s"/>' % (
            " ".join("%.1f,%.1f" % s for s in spots), color, 3 if own else 1.3))
        parts += ['<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (*s, color) for s in spots]
        y = TOP + 14 + 18 * n
        parts.append('<path d="M%d %dh22" stroke="%s" stroke-width="%s"/><text x="%d" y="%d">%s'
                     '</text>' % (WIDTH - RIGHT + 16, y - 4, color, 3 if own else 1.3,
                                  WIDTH - RIGHT + 44, y, name))
    return "\n".join(parts + ["</svg>", ""])
