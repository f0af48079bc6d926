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
  // On a narrow screen, use smaller letters and a camera farther away, so that nothing is cut off.
  const narrow = layout => {
    layout.font = { ...layout.font, size: 11 };
    layout.legend = { ...layout.legend, font: { size: 10 } };
    const { title } = layout;
    const small = (words, size) => ({ ...words, font: { ...words.font, size } });
    if (title) layout.title = small({ ...title, subtitle: small(title.subtitle ?? {}, 10) }, 12);
    layout.annotations = layout.annotations?.map(note => small(note, 11));
    for (const key of Object.keys(layout).filter(name => /^scene\d*$/.test(name))) {
      const eye = layout[key].camera?.eye ?? {};
      for (const axis of Object.keys(eye)) eye[axis] *= 1.75;
    }
  };
  let drawn = 0;
  const draw = async element => {
    const figure = JSON.parse(element.querySelector("script").textContent);
    if (element.clientWidth < 600) narrow(figure.layout);
    await plotly();
    await Plotly.newPlot(element, { ...figure, config: JSON.parse(element.dataset.config) });
    // Scripts that link the parts of a figure find it by its id.
    element.id = `figure-${drawn++}`;
    new Function(element.dataset.after.replaceAll("{plot_id}", element.id))();
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
