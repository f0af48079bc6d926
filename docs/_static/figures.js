// Draws the figures of a page when they come into view. plotly.js is loaded once, by the first.
(() => {
  const folder = new URL(".", document.currentScript.src);
  let loading;
  const plotly = () => loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("plotly.min.js", folder);
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${script.src} does not load`));
    document.head.append(script);
  });
  const draw = async element => {
    const figure = JSON.parse(element.querySelector("script").textContent);
    await plotly();
    await Plotly.newPlot(element, { ...figure, config: JSON.parse(element.dataset.config) });
  };
  const watch = () => {
    const seen = new IntersectionObserver(entries => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) {
          seen.unobserve(target);
          draw(target);
        }
      }
    }, { rootMargin: "400px" });
    document.querySelectorAll("div.figure").forEach(element => seen.observe(element));
  };
  document.addEventListener("DOMContentLoaded", watch);
})();
