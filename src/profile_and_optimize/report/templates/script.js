"use strict";
(() => {
  const tip = document.getElementById("tip");
  const place = (x, y) => {
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - tip.offsetWidth - 12)) + "px";
    tip.style.top = (y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 12 : y + 18) + "px";
  };
  const hide = () => { tip.hidden = true; };
  // The browser's own tips would stand beside ours.
  for (const t of document.querySelectorAll("svg.forest title")) t.remove();
  for (const row of document.querySelectorAll("svg.forest g.row")) {
    const show = (x, y, of) => { tip.textContent = of.dataset.tip; tip.hidden = false; place(x, y); };
    // A ring says what its block said, the rest of the row what all of them say.
    row.addEventListener("mousemove", (e) => show(e.clientX, e.clientY, e.target.dataset.tip ? e.target : row));
    row.addEventListener("mouseleave", hide);
    row.addEventListener("focus", () => { const r = row.getBoundingClientRect(); show(r.left + r.width / 2, r.bottom - 12, row); });
    row.addEventListener("blur", hide);
  }
  addEventListener("keydown", (e) => { if (e.key === "Escape") hide(); });
  addEventListener("scroll", hide, { passive: true });
  const box = document.getElementById("filter");
  const told = document.getElementById("shown");
  const all = (name) => [...document.querySelectorAll("[data-" + name + "]")];
  // A word that names an arm chooses arms, one that names a workload chooses workloads; one that names neither, nothing.
  const filter = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = (name) => {
      const there = all(name);
      const mine = words.filter((w) => there.some((e) => e.dataset[name].toLowerCase().includes(w)));
      return (e) => !mine.length || mine.some((w) => e.dataset[name].toLowerCase().includes(w));
    };
    const arm = chosen("arm"), workload = chosen("workload");
    const lost = words.filter((w) => !["arm", "workload"].some((n) => all(n).some((e) => e.dataset[n].toLowerCase().includes(w))));
    for (const e of all("workload")) e.hidden = lost.length > 0 || !workload(e);
    let shown = 0;
    for (const e of all("arm")) {
      const fits = !lost.length && arm(e);
      if (e.ownerSVGElement) e.classList.toggle("dim", !fits); else e.hidden = !fits;
      if (fits && e.closest("#arms")) shown += 1;
    }
    const open = all("workload").filter((e) => !e.hidden && e.tagName === "DIV").length;
    told.textContent = words.length ? shown + (shown === 1 ? " arm, " : " arms, ") + open + (open === 1 ? " workload" : " workloads") : "";
  };
  box.addEventListener("input", filter);
  document.getElementById("tools").hidden = false;
  // A link to a row inside a closed list of values must open it first.
  const open = () => {
    const at = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const closed = at && at.closest("details");
    if (closed) { closed.open = true; at.scrollIntoView({ block: "center" }); }
  };
  addEventListener("hashchange", open);
  open();
  addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });
})();
