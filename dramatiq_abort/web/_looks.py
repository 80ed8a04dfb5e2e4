"""The style and the script of the page, and the policy that allows these two and nothing else."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

__all__ = ["ICON", "POLICY", "SCRIPT", "STYLE"]

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #fbfbfa; --card: #fff; --text: #1d2126; --soft: #5b636d; --line: #dfe2e6; --link: #0b5cad;
  --stop: #b3261e; --on-stop: #fff; --wait: #8a5a00; --good: #1e6b3a; --said: #eef4fb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171a; --card: #1c2024; --text: #e6e8ea; --soft: #a0a8b1; --line: #343a41; --link: #7db7f5;
    --stop: #f2867e; --on-stop: #2a0806; --wait: #e5b454; --good: #79c995; --said: #1d2935;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 78rem;
  background: var(--ground); color: var(--text); font: 1rem/1.5 system-ui, sans-serif;
}
header { display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: baseline; justify-content: space-between; }
h1 { margin: 0; font-size: 1.5rem; }
h2 { margin: 0 0 .6rem; font-size: 1.1rem; }
h2 small { font-weight: normal; }
p { margin: .4rem 0; }
a { color: var(--link); }
small, .soft { color: var(--soft); font-size: .875rem; }
section { margin-top: 1.75rem; }
section:empty { margin: 0; }
code { font: .875rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.id { display: block; color: var(--soft); font-size: .75rem; font-weight: normal; }
.arguments code { display: block; font-size: .8125rem; }
.arguments { margin-top: .25rem; font-weight: normal; }
.said { padding: .6rem .9rem; border-radius: .4rem; background: var(--said); }
.none { padding: 1.25rem 1rem; border: 1px dashed var(--line); border-radius: .5rem; color: var(--soft); }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }
th, td { padding: .6rem .65rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-size: .8125rem; font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 600; overflow-wrap: anywhere; }
td { min-width: 5.5rem; overflow-wrap: anywhere; font-size: .9375rem; }
time { white-space: nowrap; }
td small, tbody th small { display: block; font-weight: normal; }
.state { font-weight: 600; white-space: nowrap; }
.state::before {
  content: ""; display: inline-block; width: .6em; height: .6em; margin-right: .45em; border-radius: 50%;
  background: currentcolor;
}
.running, .completed { color: var(--good); }
.wait, .pending, .skipped { color: var(--wait); }
.stop, .failed { color: var(--stop); }
.aborted { color: var(--link); }
form { display: flex; flex-wrap: wrap; gap: .4rem; margin: 0; }
td form { flex-wrap: nowrap; min-width: 13rem; }
td form:has(.back) { min-width: 0; }
form + form { margin-top: .4rem; }
input, button { font: inherit; font-size: .9375rem; min-height: 2.25rem; border-radius: .35rem; }
input { flex: 1 1 7rem; width: 7rem; min-width: 5rem; padding: .25rem .55rem; }
input { border: 1px solid var(--soft); background: var(--ground); color: var(--text); }
input::placeholder { color: var(--soft); opacity: 1; }
input[type=hidden] { display: none; }
button { padding: .25rem .9rem; border: 1px solid var(--stop); cursor: pointer; }
button { background: transparent; color: var(--stop); font-weight: 600; }
button:hover { background: var(--stop); color: var(--on-stop); }
button.back { border-color: var(--soft); color: var(--text); }
button.back:hover { background: var(--soft); color: var(--ground); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
details { margin-top: .75rem; }
summary { cursor: pointer; color: var(--link); }
details form { margin-top: .6rem; max-width: 46rem; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (max-width: 56rem) {
  table, tbody, tr, td, tbody th { display: block; width: 100%; }
  table { border: 0; background: none; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { margin-bottom: .75rem; padding: .5rem .75rem .75rem; border: 1px solid var(--line); border-radius: .5rem; }
  tr { background: var(--card); }
  td, tbody th { padding: .2rem 0; border: 0; }
  td[data-label] { display: grid; grid-template-columns: 5.5rem 1fr; gap: .5rem; }
  td[data-label]::before { content: attr(data-label); color: var(--soft); font-size: .875rem; line-height: 1.7; }
  td form { padding-top: .35rem; }
  td { font-size: 1rem; }
  .id { font-size: .8125rem; }
  input, button { min-height: 2.75rem; font-size: 1rem; }
}
"""

#: Fetches the page anew, and puts in what has changed. What somebody is at work with is left alone: a field with
#: something in it, the focus, a selected text. Where it does not run, the page has a <meta> that loads it again.
SCRIPT: Final = """
(() => {
  "use strict";
  const every = 1000 * Number(document.body.dataset.refresh);
  const status = document.getElementById("status");
  const inUse = (section) => {
    const selection = getSelection();
    return section.contains(document.activeElement)
      || (!selection.isCollapsed && section.contains(selection.anchorNode))
      || [...section.querySelectorAll("input:not([type=hidden])")].some((field) => field.value);
  };
  const show = (fresh) => {
    for (const section of document.querySelectorAll("section[id]")) {
      const news = fresh.getElementById(section.id);
      if (news && !inUse(section) && news.innerHTML !== section.innerHTML) {
        const open = [...section.querySelectorAll("details")].map((each) => each.open);
        section.replaceChildren(...news.childNodes);
        section.querySelectorAll("details").forEach((each, index) => { each.open = Boolean(open[index]); });
      }
    }
    const token = fresh.querySelector("input[name=token]");
    if (token) {
      document.querySelectorAll("input[name=token]").forEach((field) => { field.value = token.value; });
    }
    status.textContent = fresh.getElementById("status").textContent;
    status.classList.remove("failed");
  };
  const refresh = async () => {
    try {
      if (!document.hidden) {
        const answer = await fetch(document.body.dataset.again, {cache: "no-store"});
        if (!answer.ok) {
          throw new Error(answer.status);
        }
        show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
    } catch {
      status.textContent = "This page is out of date: nothing answers. Trying again.";
      status.classList.add("failed");
    }
    setTimeout(refresh, every);
  };
  if (every) {
    setTimeout(refresh, every);
  }
})();
"""

ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M5 1h6l4 4v6l-4 4H5"
    "l-4-4V5z' fill='%23b3261e'/%3E%3Cpath d='M5 8h6' stroke='%23fff' stroke-width='2'/%3E%3C/svg%3E"
)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


#: By their hashes: unlike a nonce, nothing that is put into the page can come to have one.
POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        f"style-src {_hash(STYLE)}",
        f"script-src {_hash(SCRIPT)}",
        "img-src data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
