"""The HTML of reports: one style, and the pieces that pages are made of; everything from outside is escaped."""

from __future__ import annotations

import jinja2
from markupsafe import Markup

STYLE = """:root{color-scheme:light dark;--ground:#fff;--text:#1b1f24;--quiet:#59636e;--line:#8886;--accent:#0a58ca}
@media (prefers-color-scheme:dark){:root{--ground:#14181d;--text:#e6eaef;--quiet:#9aa7b4;--accent:#6cb0ff}
/* White becomes the dark of the page, and hues stay what they are; photographs are left alone. */
img.chart{filter:invert(.92) hue-rotate(180deg)}}
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;
padding:0 1rem;background:var(--ground);color:var(--text);overflow-wrap:anywhere}
table{border-collapse:collapse;overflow-wrap:normal}.scroll{overflow-x:auto;max-width:100%;position:relative}
td,th{padding:.3rem .8rem;text-align:left;border-bottom:1px solid var(--line)}td{font-variant-numeric:tabular-nums}
tbody th{font-weight:600}thead th:first-child,tbody th{position:sticky;left:0;background:var(--ground)}
tbody th{min-width:5.5rem;max-width:9rem;overflow-wrap:anywhere}
.pictures{display:flex;flex-wrap:wrap;column-gap:1.5rem}section{max-width:100%}section p{margin:.4rem 0}
h2{font-size:1.2rem;margin:1.6rem 0 .4rem}h3{font-size:1rem;margin:1.2rem 0 .3rem}
img{max-width:100%;background:#fff;border-radius:4px}
pre{overflow-x:auto;font-size:13px}a{color:var(--accent)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
summary{margin-top:1.6rem;cursor:pointer}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--ground);padding:.3rem .6rem}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(6.4rem,1fr));gap:.6rem .5rem;
padding:0;list-style:none}
figure{margin:0;font-size:.85rem;line-height:1.35}figure img{width:6rem;height:6rem;object-fit:contain;background:none}
figure img.small{image-rendering:pixelated}figcaption span{display:block}.lost{color:var(--quiet)}"""

_PIECES = """
{% macro table(columns, rows, name, headed=false) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ name }}">
<table>{% if headed %}<thead>{% endif %}<tr>{% for name in columns %}<th scope="col">{{ name }}{% endfor %}</tr>
{% if headed %}</thead><tbody>{% endif %}
{% for row in rows %}<tr>{% for cell in row %}{% if headed and loop.first %}<th scope="row">{{ cell }}</th>
{% else %}<td>{{ cell }}{% endif %}{% endfor %}</tr>
{% endfor %}{% if headed %}</tbody>{% endif %}</table></div>
{% endmacro %}

{% macro image(picture) %}
<img{% if picture.chart %} class="chart"{% endif %} width="{{ picture.width }}" alt="{{ picture.alt or picture.title }}"
 src="data:image/png;base64,{{ picture.png }}">
{%- endmacro %}

{% macro cards(given) %}
<ul class="cards">
{% for card in given %}<li><figure>
{% if card.src %}<img{% if card.small %} class="small"{% endif %} alt="{{ card.alt }}" src="{{ card.src }}">
{% else %}<span class="lost">no picture</span>{% endif %}

<figcaption>{% for line in card.lines %}<span>{{ line }}</span>{% endfor %}</figcaption></figure></li>
{% endfor %}</ul>
{% endmacro %}

{% macro head(title) %}
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{{ title }}</title>
<style>{{ style }}</style>
{% endmacro %}

{% macro folded(details) %}
{% for name, text in details.items() %}<details><summary>{{ name }}</summary>
<pre tabindex="0">{{ text }}</pre></details>
{% endfor %}
{% endmacro %}
"""

_ONE_TABLE = """{% import "pieces" as p with context %}
<!doctype html><html lang="en">{{ p.head(page.title) }}<h1>{{ page.title }}</h1>
<p>{{ page.lead }}</p>
{{ p.table(page.columns, page.rows, "Figures") }}
{% if page.sentences %}<ul>{% for line in page.sentences %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}

<div class="pictures">
{% for picture in page.pictures %}<section style="width:{{ picture.width }}px"><h2>{{ picture.title }}</h2>
{% if picture.words %}<p>{{ picture.words }}</p>{% endif %}

{{ p.image(picture) }}</section>
{% endfor %}</div>
{{ p.folded(page.details) }}</html>
"""

_SECTIONS = """{% import "pieces" as p with context %}
<!doctype html><html lang="en"><head>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
{{ p.head(page.title) }}</head><body>
<a class="skip" href="#content">Skip to the content</a>
<header><h1>{{ page.title }}</h1>
<p>{{ page.lead }}</p>
<nav aria-label="Contents"><ul>
{% for section in page.sections %}<li><a href="#part-{{ loop.index }}">{{ section.title }}</a></li>
{% endfor %}</ul></nav></header>
<main id="content" tabindex="-1">
{% if page.sentences %}<ul>{% for line in page.sentences %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}

{% for section in page.sections %}
<section id="part-{{ loop.index }}" aria-labelledby="head-{{ loop.index }}">
<h2 id="head-{{ loop.index }}">{{ section.title }}</h2>
{% for line in section.sentences %}<p>{{ line }}</p>
{% endfor %}
{% if section.table %}{{ p.table(section.table.columns, section.table.rows, section.title, true) }}{% endif %}

{% if section.picture %}{{ p.image(section.picture) }}{% endif %}

{% for shelf in section.shelves %}<h3>{{ shelf.title }}</h3>
{% if shelf.words %}<p>{{ shelf.words }}</p>{% endif %}

{{ p.cards(shelf.cards) }}
{% endfor %}
{% if section.more %}<details><summary>{{ section.more.title }}</summary>
{{ p.table(section.more.columns, section.more.rows, section.more.title, true) }}</details>{% endif %}

</section>
{% endfor %}
</main>
</body></html>
"""

TEMPLATES = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
    loader=jinja2.DictLoader({"pieces": _PIECES, "page": _ONE_TABLE.lstrip(), "sections": _SECTIONS.lstrip()}),
)
TEMPLATES.globals["style"] = Markup(STYLE)
