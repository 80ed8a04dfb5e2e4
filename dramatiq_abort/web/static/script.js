// Fetches the page again and replaces the sections that have changed, except one that is in use: a field with text in
// it, the focus, a selection. Without JavaScript, a <meta> element reloads the whole page.
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
      status.textContent = "This page is out of date: the server does not answer. Trying again.";
      status.classList.add("failed");
    }
    setTimeout(refresh, every);
  };
  if (every) {
    setTimeout(refresh, every);
  }
})();
