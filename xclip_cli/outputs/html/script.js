"use strict";
(() => {
  const find = document.getElementById("find"), least = document.getElementById("least");
  const sort = document.getElementById("sort"), videos = document.getElementById("videos");
  const chips = [...document.querySelectorAll(".chip")];
  let picked = null, onlyFailed = false, current = null, open = null;

  const clock = (seconds) => {
    const whole = Math.round(seconds), pad = (n) => String(n).padStart(2, "0");
    const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    return h ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
  };

  const items = (element, selector) => [...element.querySelectorAll(selector)].map((node) => ({
    node, label: node.dataset.label, folded: node.dataset.label.toLowerCase(), score: Number(node.dataset.score),
  }));
  const cards = [...document.querySelectorAll(".card")].map((node, order) => ({
    node, order, name: node.dataset.name, folded: node.dataset.name.toLowerCase(), failed: "failed" in node.dataset,
    seconds: Number(node.dataset.seconds), score: Number(node.dataset.score), url: node.dataset.url,
    rows: items(node, ".tags li"), marks: items(node, ".mark"),
  }));
  const cardOf = (node) => cards.find((card) => card.node === node.closest(".card"));

  // Widths and places are set here: the page's policy allows no style in its text.
  const place = (card) => {
    for (const { node, score } of card.rows) node.querySelector(".bar i").style.width = `${100 * score}%`;
    const timeline = card.node.querySelector(".timeline"), image = card.node.querySelector(".scrub img");
    if (!timeline || !card.seconds) return;
    const before = image ? (100 * Number(image.dataset.start)) / card.seconds : 0;
    if (before) [image.style.marginLeft, image.style.width] = [`${before}%`, `${100 - before}%`];
    timeline.style.setProperty("--lanes", timeline.dataset.lanes);
    timeline.classList.add("placed");
    for (const { node } of card.marks) {
      const { start, end, lane } = node.dataset, share = (end - start) / card.seconds;
      node.style.left = `${(100 * start) / card.seconds}%`;
      node.style.width = `max(3px, calc(${100 * share}% - 1px))`;
      node.style.top = `${1.75 * lane}rem`;
      node.classList.toggle("slim", share < 0.06);
    }
  };

  const apply = () => {
    const text = find.value.trim().toLowerCase(), score = Number(least.value);
    const chosen = picked !== null || onlyFailed || text || score > 0;
    document.getElementById("least-shown").textContent = score.toFixed(2);
    let shown = 0;
    for (const card of cards) {
      const named = text !== "" && card.folded.includes(text);
      const fits = (item) => item.score >= score && (picked === null || item.label === picked) &&
        (text === "" || named || item.folded.includes(text));
      let visible = card.failed ? picked === null && score === 0 && (text === "" || named) : false;
      for (const item of card.rows) {
        const fit = fits(item);
        visible ||= fit;
        item.node.classList.toggle("off", !fit);
      }
      for (const item of card.marks) item.node.classList.toggle("off", !fits(item));
      visible &&= !onlyFailed || card.failed;
      card.node.hidden = !visible;
      shown += visible;
    }
    for (const chip of chips) {
      chip.setAttribute("aria-pressed", String("failed" in chip.dataset ? onlyFailed : chip.dataset.pick === picked));
    }
    const all = `${cards.length} ${cards.length === 1 ? "video" : "videos"}`;
    document.getElementById("count").textContent = chosen ? `${shown} of ${all}` : all;
    document.getElementById("nothing").hidden = shown > 0;
    if (open && open.node.hidden) close();
  };

  const reset = () => {
    [picked, onlyFailed, find.value, least.value] = [null, false, "", "0"];
    apply();
  };
  const pick = (label) => { [picked, onlyFailed] = [picked === label ? null : label, false]; apply(); };

  const arrange = () => {
    const by = {
      order: (a, b) => a.order - b.order,
      name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }) || a.order - b.order,
      score: (a, b) => b.score - a.score || a.order - b.order,
      seconds: (a, b) => b.seconds - a.seconds || a.order - b.order,
    };
    videos.append(...cards.sort(by[sort.value]).map((card) => card.node));
  };

  const show = (card, time) => {
    const slider = card.node.querySelector(".scrub"), head = slider.querySelector(".head");
    head.style.left = `calc(${card.seconds ? (100 * time) / card.seconds : 0}% - 1px)`;
    slider.setAttribute("aria-valuenow", time.toFixed(1));
    slider.setAttribute("aria-valuetext", clock(time));
    for (const { node } of card.marks) {
      node.classList.toggle("now", time >= Number(node.dataset.start) && time < Number(node.dataset.end));
    }
  };

  const poster = (card, time) => {
    const image = card.node.querySelector(".scrub img");
    if (!image || !image.complete || !image.naturalWidth) return "";
    const number = Number(image.dataset.pictures), canvas = document.createElement("canvas");
    const start = Number(image.dataset.start), share = Math.max(0, time - start) / (card.seconds - start || 1);
    const index = Math.min(number - 1, Math.floor(number * share));
    [canvas.width, canvas.height] = [image.naturalWidth / number, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, -index * canvas.width, 0);
    return canvas.toDataURL("image/jpeg", 0.8);
  };

  const close = () => {
    if (!open) return;
    const stage = open.node.querySelector(".stage"), video = stage.querySelector("video");
    video.removeAttribute("src");
    video.load();
    stage.replaceChildren();
    stage.hidden = true;
    open.node.classList.remove("playing");
    for (const { node } of open.marks) node.classList.remove("now");
    open = null;
  };

  const player = (card, time) => {
    if (open === card) return card.node.querySelector("video");
    close();
    open = card;
    const stage = card.node.querySelector(".stage"), video = document.createElement("video");
    Object.assign(video, { controls: true, preload: "none", playsInline: true, poster: poster(card, time) });
    video.setAttribute("aria-label", card.name);
    video.src = card.url;
    const note = () => { if (open === card) show(card, Math.min(video.currentTime, card.seconds)); };
    for (const event of ["timeupdate", "seeking", "seeked"]) video.addEventListener(event, note);
    video.addEventListener("error", () => {
      if (open !== card) return;
      const line = document.createElement("p"), link = document.createElement("a");
      Object.assign(link, { href: card.url, textContent: "Open the file" });
      line.append("The browser cannot play this video here. ", link, ".");
      stage.append(line);
    }, { once: true });
    stage.replaceChildren(video);
    stage.hidden = false;
    card.node.classList.add("playing");
    return video;
  };

  const jump = (card, time, play) => {
    select(card);
    const to = Math.max(0, Math.min(time, card.seconds)), video = player(card, to);
    video.preload = "auto";
    video.currentTime = to;
    show(card, to);
    if (play) video.play().catch(() => {});
  };

  const toggle = (card) => {
    const video = player(card, 0);
    select(card);
    if (video.paused) video.play().catch(() => {}); else video.pause();
  };

  const select = (card) => {
    if (current) current.node.classList.remove("current");
    current = card;
    card.node.classList.add("current");
  };

  const step = (by) => {
    const visible = cards.filter((card) => !card.node.hidden);
    if (!visible.length) return;
    const at = visible.indexOf(current), next = at < 0 ? (by > 0 ? 0 : visible.length - 1) : at + by;
    const card = visible[Math.max(0, Math.min(next, visible.length - 1))];
    select(card);
    card.node.focus({ preventScroll: true });
    card.node.scrollIntoView({ block: "nearest" });
  };

  const moment = (card) => (open === card ? card.node.querySelector("video").currentTime : 0);

  document.addEventListener("click", (event) => {
    const target = event.target.closest("button, .scrub, .card h2 a");
    if (!target) return;
    if (target.id === "reset") reset();
    else if (target.id === "theme") theme(!dark());
    else if (target.dataset.pick !== undefined) pick(target.dataset.pick);
    else if ("failed" in target.dataset) { [picked, onlyFailed] = [null, !onlyFailed]; apply(); }
    else if (target.classList.contains("mark")) jump(cardOf(target), Number(target.dataset.start), true);
    else if (target.classList.contains("scrub")) {
      const box = target.getBoundingClientRect(), card = cardOf(target);
      jump(card, (card.seconds * (event.clientX - box.left)) / box.width, false);
    }
  });

  document.addEventListener("keydown", (event) => {
    const at = event.target, typing = at.matches("input, select, textarea"), key = event.key;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "Escape") { if (at === find) { find.value = ""; apply(); find.blur(); } else close(); return; }
    if (typing || at.matches("video")) return;
    const card = at.closest(".card") ? cardOf(at) : current;
    const usable = card && !card.failed && !card.node.hidden;
    const acts = {
      "/": () => find.focus(),
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      ArrowRight: usable && (() => jump(card, moment(card) + Math.max(1, card.seconds / 20), false)),
      ArrowLeft: usable && (() => jump(card, moment(card) - Math.max(1, card.seconds / 20), false)),
      " ": usable && !at.matches("button, a") && (() => toggle(card)),
      Enter: usable && at.matches(".scrub") && (() => toggle(card)),
    };
    if (acts[key]) { event.preventDefault(); acts[key](); }
  });

  const button = document.getElementById("theme");
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = (wanted) => {
    if (wanted !== undefined) document.documentElement.dataset.theme = wanted ? "dark" : "light";
    button.textContent = dark() ? "Light" : "Dark";
  };

  find.addEventListener("input", apply);
  least.addEventListener("input", apply);
  sort.addEventListener("change", arrange);
  document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("tools").hidden = button.hidden = false;
  cards.forEach(place);
  theme();
  apply();
})();
