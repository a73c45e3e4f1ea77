"use strict";
(() => {
  const tip = document.getElementById("tip");
  const place = (x, y) => {
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - tip.offsetWidth - 12)) + "px";
    tip.style.top = (y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 12 : y + 18) + "px";
  };
  for (const row of document.querySelectorAll("svg.forest g.row")) {
    const show = (x, y) => { tip.textContent = row.dataset.tip; tip.hidden = false; place(x, y); };
    const hide = () => { tip.hidden = true; };
    row.addEventListener("mousemove", (e) => show(e.clientX, e.clientY));
    row.addEventListener("mouseleave", hide);
    row.addEventListener("focus", () => { const r = row.getBoundingClientRect(); show(r.left + r.width / 2, r.bottom - 12); });
    row.addEventListener("blur", hide);
  }
  const box = document.getElementById("filter");
  const told = document.getElementById("shown");
  const filter = () => {
    const want = box.value.trim().toLowerCase();
    let shown = 0;
    for (const e of document.querySelectorAll("[data-arm]")) {
      const fits = e.dataset.arm.toLowerCase().includes(want);
      if (e.ownerSVGElement) e.classList.toggle("dim", !fits); else e.hidden = !fits;
      if (fits && e.closest("#arms")) shown += 1;
    }
    told.textContent = want ? shown + (shown === 1 ? " arm" : " arms") + " shown" : "";
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
