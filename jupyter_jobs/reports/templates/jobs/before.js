// whoever shows this page in a frame says above it what it is
if (window.parent !== window) {
  document.documentElement.classList.add('jj-framed');
}
window.MathJax = {
  tex: { inlineMath: [['$', '$'], ['\\(', '\\)']], displayMath: [['$$', '$$'], ['\\[', '\\]']], processEscapes: true, processEnvironments: true, tags: 'ams' },
  svg: { fontCache: 'global' },
  options: { enableMenu: false, ignoreHtmlClass: 'mathjax_ignore|tex2jax_ignore|jp-RenderedText' }
};
window.PlotlyConfig = { MathJaxConfig: 'local' };
