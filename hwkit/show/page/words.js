/** Every word of the page, in English and in the Chinese of Taiwan. */

/** @type {Record<string, Record<string, string>>} */
export const WORDS = {
  en: {
    title: "Diffusion, to try out",
    intro:
      "A small network that turns noise into handwritten digits, running in your browser. Nothing you draw or load leaves this device.",
    other_language: "中文",
    loading: "Loading the network, about 10 MB …",
    about:
      "{name}: {millions} million weights, predicts {predicts}, {schedule} schedule with T = {T}. It runs here, {where}.",
    wasm: "in one thread",
    webgpu: "on the graphics card (WebGPU)",
    no_wasm:
      "This browser cannot run the network: it has no WebAssembly, or cannot unpack a file. A current Firefox, Chrome, Edge or Safari can.",
    trouble_fetch:
      "A file of this page did not arrive ({detail}). Reload the page; if that does not help, build the site again.",
    trouble_broken:
      "{file} is broken or is not a file of the kit's weights ({detail}). Make it again: python -m hwkit export",
    trouble_foreign:
      "{file} does not say which recipe it was trained by, so it is no export of the kit. Make one: python -m hwkit export",
    trouble_steps:
      "The network in {file} is distilled and knows {detail} steps only, but this page asks for others. Take other weights.",
    trouble_shape:
      "The network in {file} has another shape ({detail}) than this page knows. Build a page for it: python -m hwkit page --run RUN",
    trouble_failed: "The network stopped: {detail}. Reload the page; if it happens again, another browser may help.",
    predict: "Predict first",
    see: "What to see",
    steps: "Steps",
    seed: "Seed",
    image: "Image",
    sampler: "Sampler",
    run: "Run",
    pause: "Pause",
    go_on: "Go on",
    sampler_left: "Left",
    sampler_right: "Right",
    time: "Time",
    eta: "η of DDIM, fresh noise",
    dpm: "DPM-Solver++",
    sde: "DPM-Solver++ with noise",
    curve: "√ᾱₜ, the share of the image in xₜ, over t",
    share: "share of the image",
    step: "step {step} of {of}",
    working: "The network is at work …",
    no_digit: "no digit",
    colon: ": ",

    sample: "Sample",
    sample_predict:
      "Both sides begin with the same noise. Will they end with the same digit? And when will x̂₀, the network's guess, look like a digit: long before xₜ does, or together with it?",
    sample_see:
      "x̂₀ is a blurred digit while xₜ is still noise: the mean of all digits that xₜ may become. DDIM goes straight on; DDPM adds fresh noise in every step, so the two part, and the more so the earlier. With η = 1, DDIM adds as much noise as DDPM.",
    sample_result: "The classifier takes the left one for: {left}, and the right one for: {right}.",
    sample_hint:
      "Image k of a seed begins with the same noise as in the notebooks and in generate/. With the same sampler, steps and η, and without a guide, it is the same picture.",

    draw: "Draw, noise, denoise",
    draw_predict:
      "Draw a digit, or take one of MNIST's. How far must it go into the noise before the way back ends in another digit?",
    draw_see:
      "Even from far out the digit comes back, and only its strokes change. Towards T the error of x̂₀ grows and x̂₀ blurs; from T itself the way back ends in any digit. A drawing unlike MNIST (too thin, too large, off centre) is pulled towards what the network knows.",
    pad: "Drawing pad. Draw with mouse or finger, or with the arrow keys: Shift and an arrow draws a line, Space a dot.",
    pad_hint: "Mouse, finger, or arrow keys: Shift + arrow draws, Space makes a dot.",
    draw_digits: "A digit of MNIST's",
    draw_clear: "Clear",
    draw_file: "Your own picture (PNG)",
    draw_fresh: "Other noise",
    draw_run: "Run back to 0",
    error_picture: "|x̂₀ − x₀|",
    way_back: "back",
    draw_error: "Error of x̂₀ (root mean square): {rms}. The classifier takes x̂₀ for: {digit}.",
    draw_zero: "At t = 0 there is nothing to take back. Move t to the right first.",
    draw_result: "Before: {before}. After: {after}.",
    no_image: "{file} cannot be read as a picture. Take a PNG or a JPEG.",

    fork: "Fork",
    fork_predict:
      "Stop somewhere, and let eight samplers go on from that one state. At which t will all eight end in the same digit?",
    fork_see:
      "Near T the state decides nothing: the eight become different digits. In the middle most agree, and near 0 all do; only details differ. DDIM without noise is no fork at all: eight times the same image.",
    fork_state: "The state on the screen",
    fork_t: "Time, as in the section above",
    fork_run: "Fork into eight",
    fork_result: "From t = {from}: {agree} of {of} agree on {digit}.",
    fork_so_far: "t = {t}: {agree} of {of} so far on {digit} …",
    continuation: "Continuation {n}: {digit}",

    bend: "Bend the schedule",
    bend_predict:
      "Make T small, or β small at the end. What is left of the digit at t = T, and what will sampling make of noise that is said to be such a state?",
    bend_see:
      "x_T should be noise, so √ᾱ_T must be near 0. Where it is not, sampling begins with something that the network never saw at that time: it takes the noise for a picture. The network itself is the same; for each step it is told the time at which its own schedule has as much noise.",
    bend_name: "Kind",
    linear: "linear",
    cosine: "cosine",
    bend_start: "first β",
    bend_end: "last β",
    bend_warning: "√ᾱ_T = {left}: so much of the image is left at T. That is too much; aim at less than 0.05.",
    bend_fine: "√ᾱ_T = {left}: nearly nothing of the image is left at T. That is as it should be.",
    bend_run: "Sample by both",
    own_schedule: "its own",
    bent_schedule: "bent",
    bend_strip: "The digit of the drawing pad on its way to T, by the bent schedule",

    mistakes: "Known mistakes",
    mistakes_predict:
      "Each switch is a mistake that people make. Which ones will you see at once, and which will you not see at all?",
    mistakes_see:
      "Noise in the last step and strides that end above 0 leave grain, less of it with more steps. With the wrong range black is grey, and no digit comes at all. No clipping does next to nothing with the kit's network, which predicts x̂₀ and seldom leaves [−1, 1]. Off by one still makes digits, with a few specks, but they are other digits: nobody would see it in the picture alone. Read the number too.",
    mistake_noise: "noise in the last step",
    mistake_range: "x̂₀ clipped to [0, 1], not [−1, 1]",
    mistake_strides: "strides of T // steps",
    mistake_clip: "no clipping of x̂₀",
    mistake_shift: "the network is told the next t (off by one)",
    done_right: "Done right",
    with_mistakes: "With mistakes",
    mistakes_result: "Root mean square difference from what is right: {rms}. The last time is t = {t}.",

    walk: "Walk",
    walk_predict:
      "Two noises make two digits. On the way between them, will the digits change little by little, or jump?",
    walk_see:
      "Long stretches are one digit that changes its slant and width; then within one or two steps it is another. The straight line passes through noise that is too weak: its middle images are plainer, with thinner strokes.",
    walk_a: "From image",
    walk_b: "To image",
    walk_kind: "Way",
    slerp: "on the sphere",
    straight: "straight line",
    walk_at: "Place",
    walk_result: "Changes of the digit on the way: {changes}.",

    own: "Your own network",
    own_predict:
      "Train for one minute, then for ten, and load both. Which of the sections above will show the difference best?",
    own_see:
      "Look at how early x̂₀ is a digit, and how often a fork ends in “no digit”. Everything on this page runs with your weights until you reload it.",
    own_drop: "Drop ema_latest.safetensors here, or choose the file:",
    own_how: "python -m hwkit export makes it from a run. It is read in this browser and sent nowhere.",
    own_loaded: "{file} is in use now.",

    footer:
      "Made by python -m hwkit page. The digits are MNIST's (CC BY-SA 3.0). The network runs by ONNX Runtime Web (MIT). Functions in the scripts have the names that they have in the kit: look for ddim_step.",
  },

  zh: {
    title: "動手玩擴散模型",
    intro: "這個小小的神經網路會把雜訊變成手寫數字，而且就在你的瀏覽器裡執行。你畫的、載入的東西都不會離開這台裝置。",
    other_language: "English",
    loading: "正在載入神經網路，約 10 MB …",
    about: "{name}：{ten_thousands} 萬個權重，預測 {predicts}，{schedule}排程，T = {T}。它就在這裡{where}執行。",
    wasm: "以單一執行緒",
    webgpu: "用顯示卡（WebGPU）",
    no_wasm:
      "這個瀏覽器無法執行神經網路：它沒有 WebAssembly，或無法解壓縮檔案。請改用新版的 Firefox、Chrome、Edge 或 Safari。",
    trouble_fetch: "這個網頁有一個檔案沒有載入（{detail}）。請重新整理；如果還是不行，請重新建立網站。",
    trouble_broken: "{file} 已損壞，或不是本套件的權重檔（{detail}）。請重新產生：python -m hwkit export",
    trouble_foreign:
      "{file} 沒有寫明訓練時用的配方，所以不是本套件匯出的檔案。請用這個指令產生：python -m hwkit export",
    trouble_steps: "{file} 裡的網路經過蒸餾，只會走 {detail} 步，但這個網頁要用別的步數。請改用別的權重。",
    trouble_shape:
      "{file} 裡的網路形狀（{detail}）不在這個網頁的範圍內。請為它建立網頁：python -m hwkit page --run RUN",
    trouble_failed: "神經網路停止了：{detail}。請重新整理；如果又發生，請換一個瀏覽器試試。",
    predict: "先猜猜看",
    see: "看什麼",
    steps: "步數",
    seed: "種子",
    image: "第幾張",
    sampler: "取樣器",
    run: "執行",
    pause: "暫停",
    go_on: "繼續",
    sampler_left: "左邊",
    sampler_right: "右邊",
    time: "時間",
    eta: "DDIM 的 η，新加的雜訊",
    dpm: "DPM-Solver++",
    sde: "DPM-Solver++ 加雜訊",
    curve: "√ᾱₜ：xₜ 中影像所占的比例，隨 t 變化",
    share: "影像比例",
    step: "第 {step} 步，共 {of} 步",
    working: "神經網路計算中 …",
    no_digit: "不是數字",
    colon: "：",

    sample: "取樣",
    sample_predict:
      "兩邊從同一份雜訊開始。最後會得到同一個數字嗎？神經網路猜的 x̂₀ 會比 xₜ 早很多就看得出數字，還是和 xₜ 一起？",
    sample_see:
      "xₜ 還是雜訊的時候，x̂₀ 已經是模糊的數字：它是 xₜ 可能變成的所有數字的平均。DDIM 直直往前走；DDPM 每一步都加入新的雜訊，所以兩邊會分開，越早分開差得越多。η = 1 時，DDIM 加的雜訊和 DDPM 一樣多。",
    sample_result: "分類器的判斷：左邊「{left}」，右邊「{right}」。",
    sample_hint:
      "同一個種子的第 k 張影像，和筆記本、generate/ 裡的從同一份雜訊開始。取樣器、步數、η 都相同，而且不用引導時，就是同一張。",

    draw: "畫圖、加雜訊、去雜訊",
    draw_predict: "畫一個數字，或用 MNIST 的數字。要加多少雜訊，走回來時才會變成別的數字？",
    draw_see:
      "就算走得很遠，原來的數字還是會回來，只有筆畫改變。越靠近 T，x̂₀ 的誤差越大、影像越模糊；從 T 走回來可能變成任何數字。和 MNIST 不像的圖（太細、太大、沒有置中）會被拉向神經網路認識的樣子。",
    pad: "畫板。用滑鼠或手指畫；也可以用方向鍵：Shift 加方向鍵畫線，空白鍵畫點。",
    pad_hint: "滑鼠、手指或方向鍵：Shift + 方向鍵畫線，空白鍵畫點。",
    draw_digits: "MNIST 的數字",
    draw_clear: "清除",
    draw_file: "自己的圖片（PNG）",
    draw_fresh: "換一份雜訊",
    draw_run: "走回 0",
    error_picture: "|x̂₀ − x₀|",
    way_back: "走回",
    draw_error: "x̂₀ 的誤差（均方根）：{rms}。分類器對 x̂₀ 的判斷：「{digit}」。",
    draw_zero: "t = 0 時沒有雜訊可以去除。請先把 t 往右移。",
    draw_result: "之前：{before}。之後：{after}。",
    no_image: "無法把 {file} 當成圖片讀取。請用 PNG 或 JPEG。",

    fork: "分岔",
    fork_predict: "停在某個時間，讓八個取樣器從同一個狀態繼續。t 是多少時，八個會得到同一個數字？",
    fork_see:
      "靠近 T 時，狀態什麼都還沒決定：八個變成不同的數字。到了中間，大多數一致；靠近 0 時全部一致，只有細節不同。不加雜訊的 DDIM 根本不會分岔：八張都一樣。",
    fork_state: "畫面上的狀態",
    fork_t: "時間，和上一節相同",
    fork_run: "分成八路",
    fork_result: "從 t = {from} 開始：{of} 個之中有 {agree} 個，判斷為「{digit}」。",
    fork_so_far: "t = {t}：目前 {of} 個之中有 {agree} 個，判斷為「{digit}」…",
    continuation: "第 {n} 路：{digit}",

    bend: "彎曲排程",
    bend_predict: "把 T 調小，或把最後的 β 調小。t = T 時數字還剩多少？如果硬說雜訊就是那個狀態，取樣會得到什麼？",
    bend_see:
      "x_T 應該是雜訊，所以 √ᾱ_T 必須接近 0。不接近 0 時，取樣的起點是神經網路在那個時間從沒看過的東西：它會把雜訊當成圖。神經網路本身沒有變；每一步告訴它的時間，是它自己的排程中雜訊一樣多的時間。",
    bend_name: "種類",
    linear: "線性",
    cosine: "餘弦",
    bend_start: "第一個 β",
    bend_end: "最後的 β",
    bend_warning: "√ᾱ_T = {left}：到了 T，影像還剩這麼多。太多了，最好小於 0.05。",
    bend_fine: "√ᾱ_T = {left}：到了 T，影像幾乎不剩。這樣才對。",
    bend_run: "兩種都取樣",
    own_schedule: "原本的",
    bent_schedule: "彎曲的",
    bend_strip: "畫板上的數字依彎曲的排程走到 T",

    mistakes: "已知的錯誤",
    mistakes_predict: "每個開關是一種常見的錯誤。哪些一眼就看得出來？哪些完全看不出來？",
    mistakes_see:
      "最後一步加雜訊、步距沒走到 0，都會留下顆粒，步數越多顆粒越少。範圍弄錯時黑色變成灰色，根本得不到數字。不裁切對本套件的網路幾乎沒有影響：它預測 x̂₀，很少超出 [−1, 1]。差一步還是會得到數字，帶一些斑點，但會是別的數字：只看圖不會發現。也要看數值。",
    mistake_noise: "最後一步也加雜訊",
    mistake_range: "x̂₀ 裁切到 [0, 1]，不是 [−1, 1]",
    mistake_strides: "步距用 T // 步數",
    mistake_clip: "x̂₀ 不裁切",
    mistake_shift: "告訴網路下一個 t（差一步）",
    done_right: "正確的做法",
    with_mistakes: "有錯誤",
    mistakes_result: "和正確結果的均方根差：{rms}。最後的時間是 t = {t}。",

    walk: "漫步",
    walk_predict: "兩份雜訊產生兩個數字。走在兩者之間，數字會慢慢變，還是突然跳？",
    walk_see:
      "很長一段都是同一個數字，只有斜度和寬度在變；然後在一兩步之內就變成另一個。直線會經過太弱的雜訊：中間的影像比較簡單，筆畫也比較細。",
    walk_a: "從第幾張",
    walk_b: "到第幾張",
    walk_kind: "路線",
    slerp: "沿球面",
    straight: "直線",
    walk_at: "位置",
    walk_result: "一路上數字改變的次數：{changes}。",

    own: "你自己的網路",
    own_predict: "訓練一分鐘，再訓練十分鐘，兩個都載入看看。上面哪一節最看得出差別？",
    own_see: "看看 x̂₀ 多早就看得出數字，分岔又有多常得到「不是數字」。載入後整個網頁都用你的權重，直到重新整理為止。",
    own_drop: "把 ema_latest.safetensors 拖到這裡，或選擇檔案：",
    own_how: "這個檔案由 python -m hwkit export 從訓練結果產生。它只在這個瀏覽器裡讀取，不會傳到任何地方。",
    own_loaded: "現在使用 {file}。",

    footer:
      "由 python -m hwkit page 產生。數字來自 MNIST（CC BY-SA 3.0）。神經網路以 ONNX Runtime Web（MIT）執行。程式裡的函式和套件裡同名：找找看 ddim_step。",
  },
}

const asked = new URLSearchParams(globalThis.location?.search).get("lang") ?? globalThis.navigator?.language ?? "en"
let spoken = asked.startsWith("zh") ? "zh" : "en"

export const language = () => spoken

/** @param {string} next en or zh */
export function speak(next) {
  spoken = next
}

/** The words of a key, with values put in for {names}. @param {string} key @param {Record<string, any>} [values] */
export function say(key, values = {}) {
  const words = WORDS[spoken][key]
  if (words === undefined) throw new Error(`no words for ${key}`)
  const said = (/** @type {any} */ value) => String(typeof value === "function" ? value() : value) // in this language
  return words.replace(/\{(\w+)\}/g, (_, name) => said(values[name]))
}

/** Puts the words of this language into every element that asks for some. */
export function dress() {
  document.documentElement.lang = spoken === "zh" ? "zh-Hant-TW" : "en"
  const other = document.getElementById("language") // whose word is in the other language
  if (other) other.lang = spoken === "zh" ? "en" : "zh-Hant-TW"
  document.title = say("title")
  for (const each of document.querySelectorAll("[data-word]"))
    each.textContent = say(/** @type {HTMLElement} */ (each).dataset.word ?? "")
}
