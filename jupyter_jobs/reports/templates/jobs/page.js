(function () {
  'use strict';
  var page = JSON.parse(document.getElementById('jj-page').textContent);
  var framed = window.parent !== window;
  var dark = page.theme === 'dark' || (page.theme === 'auto' && window.matchMedia('(prefers-color-scheme: dark)').matches);

  // The widgets' own code still speaks to MathJax 2.
  if (window.MathJax.startup) {
    window.MathJax.Hub = {
      Queue: function (command) {
        window.MathJax.startup.promise.then(function () {
          return window.MathJax.typesetPromise([command[2]]);
        });
      }
    };
  } else {
    delete window.MathJax;
  }

  // In a sandbox (even alone in a tab) new tabs are refused. Only there is the storage closed; the origin is "null" in a local file too.
  function sandboxed() {
    try {
      return !window.localStorage;
    } catch (error) {
      return true;
    }
  }

  // A link to a file of the run cannot be followed from here: no origin, no cookie. Whoever shows this page opens it.
  function target(anchor) {
    var href = anchor.getAttribute('href') || '';
    if (!href || href[0] === '#') {
      return null;
    }
    if (anchor.classList.contains('jj-notebook')) {
      return { 'jupyter-jobs': 'notebook' };
    }
    if (/^[a-z][a-z0-9+.-]*:|^\/\//i.test(href)) {
      return /^(https?:|\/\/)/i.test(href) ? { 'jupyter-jobs': 'external', url: anchor.href } : null;
    }
    var base = 'http://files.invalid/' + (page.folder ? page.folder.split('/').map(encodeURIComponent).join('/') + '/' : '');
    var url = new URL(href, base);
    return { 'jupyter-jobs': 'open', path: decodeURIComponent(url.pathname.slice(1)), fragment: url.hash.slice(1) };
  }

  document.addEventListener('click', function (event) {
    var anchor = event.target instanceof Element ? event.target.closest('a[href]') : null;
    var message = anchor && target(anchor);
    if (message && (framed || message['jupyter-jobs'] === 'open')) {
      event.preventDefault();
      if (framed) {
        window.parent.postMessage(message, '*');
      }
    }
  });
  document.querySelectorAll('a[href]').forEach(function (anchor) {
    var message = target(anchor);
    if (message && message['jupyter-jobs'] === 'external') {
      anchor.rel = 'noopener noreferrer';
      if (!framed && !sandboxed()) {
        anchor.target = '_blank';
      }
    } else if (message && message['jupyter-jobs'] === 'open' && !framed) {
      anchor.title = 'A file of the run: ' + message.path;
    }
  });

  // what scrolls can be reached by the keyboard, and a picture is said to be one
  document.querySelectorAll('.jp-Cell-inputWrapper, .jp-OutputArea-output').forEach(function (box) {
    box.tabIndex = 0;
  });
  document.querySelectorAll('img:not([alt])').forEach(function (image) {
    image.alt = 'Picture without a description';
  });

  document.querySelectorAll('time[datetime]').forEach(function (time) {
    var at = new Date(time.dateTime);
    if (!isNaN(at)) {
      var today = at.toDateString() === new Date().toDateString();
      time.textContent = at.toLocaleString([], today ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' });
      time.title = at.toLocaleString([], { dateStyle: 'full', timeStyle: 'long' });
    }
  });

  document.querySelectorAll('.jj-plotly').forEach(function (box) {
    var figure = JSON.parse(box.querySelector('script').textContent);
    var drawing = document.createElement('div');
    box.appendChild(drawing);
    var config = Object.assign({}, figure.config, { responsive: true, displaylogo: false });
    window.Plotly.newPlot(drawing, figure.data || [], figure.layout || {}, config).then(function () {
      return figure.frames ? window.Plotly.addFrames(drawing, figure.frames) : null;
    });
  });

  if (window.mermaid) {
    window.mermaid.initialize({ startOnLoad: false, theme: dark ? 'dark' : 'default', fontFamily: 'inherit' });
    window.mermaid.run({ querySelector: 'pre.mermaid, .jp-Mermaid > pre' }).catch(function (error) {
      console.error(error);
    });
  }
})();
