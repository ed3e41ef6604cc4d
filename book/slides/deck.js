// Shows the slides of a page by reveal.js on a screen that is wide enough. On others the page is read as it is.
'use strict';

const SMALLEST = 0.6; // of a slide's letters, where it has much to say

/** Makes the letters of a slide smaller until it fits. */
function fit(slide) {
  const full = 28;
  for (let size = full; size >= full * SMALLEST && slide.scrollHeight > 720; size -= 1) {
    slide.style.fontSize = `${size}px`;
  }
}

async function show() {
  document.querySelector('.deck').classList.add('reveal');
  await Reveal.initialize({
    plugins: [RevealNotes],
    width: 1280,
    height: 720,
    margin: 0.02,
    center: false,
    hash: true,
    transition: 'none',
    scrollActivationWidth: null,
  });
  Reveal.on('slidechanged', (event) => fit(event.currentSlide));
  await window.MathJax?.startup?.promise;
  fit(Reveal.getCurrentSlide());
}

// The speaker's window holds slides in small frames, and waits until they are shown.
const forTheSpeaker = new URLSearchParams(window.location.search).has('receiver');

if (forTheSpeaker || window.matchMedia('(min-width: 700px)').matches) {
  window.addEventListener('load', show);
}
