"""Ready-made style projects: six painters, with everything a training set and a first run need but the pictures.

The figures are where to begin, not laws: those for SD 1.5 and SDXL are what style LoRAs of ten to forty pictures are
commonly trained with; those for the built-in model are for its 128 px and its 24 MB U-Net.
"""

from __future__ import annotations

from dataclasses import dataclass

from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.lookup import match, unknown
from danqing.spec.sight import Language

Words = dict[Language, str]


@dataclass(frozen=True)
class Recommended:
    """A first run on one family of models.

    Attributes:
        base: `builtin`, `sd1` or `sdxl`.
        method: Of `spec.training_methods`.
        max_timestep: Most noise that is trained with: less teaches the touch and leaves the composition alone.
    """

    base: str
    method: str
    size_px: int
    steps: int
    batch: int
    rank: int
    alpha: float
    learning_rate: float
    max_timestep: int = 999


@dataclass(frozen=True)
class Work:
    """A picture that suits the set."""

    title: Words
    year: str


@dataclass(frozen=True)
class StyleProject:
    """What a set for one painter's style begins with.

    Attributes:
        key: Stable name, as `danqing dataset new --recipe` takes it.
        name: English label.
        aliases: Other names, Chinese ones among them.
        names: Of the painter, in each language.
        looks: What the style is, in each language.
        trigger: A rare word that the style is bound to.
        class_words: What its pictures are.
        count: Least and most pictures that are worth collecting.
        collect: Which ones, in each language.
        works: That suit; see `free`.
        free: Whether the painter's works are in the public domain; a photograph of one may still be somebody's.
        rights: What may be done, in each language.
        licence_note: What the set's licence note begins with.
        prompts: For samples, with {trigger}.
        recommended: For each family.
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    names: Words
    looks: Words
    trigger: str
    class_words: str
    count: tuple[int, int]
    collect: Words
    works: tuple[Work, ...]
    free: bool
    rights: Words
    licence_note: str
    prompts: tuple[str, ...]
    caption_template: str = "{trigger}, {caption}"
    recommended: tuple[Recommended, ...] = ()

    def for_base(self, base: str) -> Recommended:
        """The first run on a family; that of SD 1.5 for a family without its own."""
        found = {one.base: one for one in self.recommended}
        return found.get(base, found["sd1"])


_PAINTED = (
    Recommended("builtin", "lora", 128, 400, 4, 16, 16.0, 2e-3, 550),
    Recommended("sd1", "lora", 512, 2000, 2, 16, 8.0, 1e-4),
    Recommended("sdxl", "lora", 1024, 2000, 2, 16, 8.0, 1e-4),
)
# Fine lines and pale washes are learnt later than thick paint, and overdone sooner.
_FINE = (
    Recommended("builtin", "lora", 128, 400, 4, 16, 16.0, 2e-3, 550),
    Recommended("sd1", "lora", 512, 2400, 2, 32, 16.0, 7e-5),
    Recommended("sdxl", "lora", 1024, 2400, 2, 32, 16.0, 7e-5),
)


def _three(en: str, hans: str, hant: str) -> Words:
    return {"en": en, "zh-Hans": hans, "zh-Hant": hant}


def _work(year: str, en: str, hans: str, hant: str) -> Work:
    return Work(_three(en, hans, hant), year)


def _free(died: int, en: str, hans: str, hant: str) -> Words:
    return _three(
        f"{en} died in {died}: the paintings are in the public domain. Take photographs that a museum gives away under "
        "CC0 or as public domain; elsewhere a photograph may be somebody's.",
        f"{hans}卒于 {died} 年，作品已属公有领域。请用博物馆以 CC0 或公有领域开放的图片；其他来源的照片或另有权利人。",
        f"{hant}卒於 {died} 年，作品已屬公有領域。請用博物館以 CC0 或公有領域開放的圖片；其他來源的照片或另有權利人。",
    )


_COLLECT_PAINT = _three(
    "10 to 40 paintings of different subjects (landscape, people, still life), whole, without their frames, at least "
    "512 px, with brush marks that can be seen. Caption what is shown, not how it is painted: the trigger is to stand "
    "for that.",
    "收集 10 到 40 幅题材不同的画（风景、人物、静物），完整、不带画框，边长至少 512 像素，笔触清晰。"
    "说明文字只写画了什么，不写怎么画：画法由触发词代表。",
    "收集 10 到 40 幅題材不同的畫（風景、人物、靜物），完整、不帶畫框，邊長至少 512 像素，筆觸清晰。"
    "說明文字只寫畫了什麼，不寫怎麼畫：畫法由觸發詞代表。",
)
_OWN_PICTURES = _three(
    "Use only pictures that you may use: with the rights holder's permission, or where the law of your country allows "
    "training on them. Danqing brings none and does not pass the trained file on.",
    "只可使用您有权使用的图片：已获权利人许可，或您所在地法律允许用于训练。丹青不附带任何图片，也不会传播训练所得的文件。",
    "只可使用您有權使用的圖片：已獲權利人許可，或您所在地法律允許用於訓練。丹青不附帶任何圖片，也不會傳播訓練所得的檔案。",
)

STYLE_PROJECTS: tuple[StyleProject, ...] = (
    StyleProject(
        "van-gogh",
        "Van Gogh",
        ("vincent van gogh", "gogh", "梵高", "梵谷"),
        _three("Vincent van Gogh", "文森特·梵高", "文森·梵谷"),
        _three(
            "Thick oil in short directed strokes, swirling skies, complementary colours.",
            "厚涂油彩，短促而有方向的笔触，旋涡般的天空，互补色。",
            "厚塗油彩，短促而有方向的筆觸，漩渦般的天空，互補色。",
        ),
        "dqvangogh",
        "oil painting",
        (10, 40),
        _COLLECT_PAINT,
        (
            _work("1889", "The Starry Night", "星夜", "星夜"),
            _work("1888", "Café Terrace at Night", "夜晚的咖啡馆", "夜間的露天咖啡座"),
            _work("1890", "The Church at Auvers", "奥维尔教堂", "奧維的教堂"),
            _work("1887", "Portrait of Père Tanguy", "唐吉老爹", "唐吉老爹"),
            _work("1888", "The Harvest", "收获", "收穫"),
        ),
        True,
        _free(1890, "Van Gogh", "梵高", "梵谷"),
        "Paintings by Vincent van Gogh (1853-1890), public domain.",
        (
            "{trigger}, a village street under a night sky",
            "{trigger}, a vase of flowers on a table",
            "{trigger}, portrait of an old man with a hat",
            "{trigger}, a lighthouse by the sea",
        ),
        recommended=_PAINTED,
    ),
    StyleProject(
        "monet",
        "Monet",
        ("claude monet", "莫奈", "莫內"),
        _three("Claude Monet", "克劳德·莫奈", "克洛德·莫內"),
        _three(
            "Broken strokes of pure colour, light on water and mist, soft edges, little black.",
            "纯色的碎笔触，水面与雾中的光，轮廓柔和，几乎不用黑色。",
            "純色的碎筆觸，水面與霧中的光，輪廓柔和，幾乎不用黑色。",
        ),
        "dqmonet",
        "oil painting",
        (10, 40),
        _COLLECT_PAINT,
        (
            _work("1872", "Impression, Sunrise", "日出·印象", "印象·日出"),
            _work("1906", "Water Lilies", "睡莲", "睡蓮"),
            _work("1875", "Woman with a Parasol", "撑阳伞的女人", "撐陽傘的女人"),
            _work("1891", "Haystacks", "干草堆", "乾草堆"),
            _work("1899", "Bridge over a Pond of Water Lilies", "睡莲池上的桥", "睡蓮池上的橋"),
        ),
        True,
        _free(1926, "Monet", "莫奈", "莫內"),
        "Paintings by Claude Monet (1840-1926), public domain.",
        (
            "{trigger}, a pond with a wooden bridge",
            "{trigger}, a harbour in the morning mist",
            "{trigger}, a woman in a field of poppies",
            "{trigger}, a railway station full of steam",
        ),
        recommended=_PAINTED,
    ),
    StyleProject(
        "renoir",
        "Renoir",
        ("pierre-auguste renoir", "auguste renoir", "雷诺阿", "雷諾瓦"),
        _three("Pierre-Auguste Renoir", "皮埃尔-奥古斯特·雷诺阿", "皮耶-奧古斯特·雷諾瓦"),
        _three(
            "Feathery strokes, warm skin, dappled light, people at ease.",
            "羽毛般的笔触，温暖的肤色，斑驳的光影，闲适的人物。",
            "羽毛般的筆觸，溫暖的膚色，斑駁的光影，閒適的人物。",
        ),
        "dqrenoir",
        "oil painting",
        (10, 40),
        _COLLECT_PAINT,
        (
            _work("1876", "Bal du moulin de la Galette", "煎饼磨坊的舞会", "煎餅磨坊的舞會"),
            _work("1892", "Girls at the Piano", "弹钢琴的少女", "彈鋼琴的少女"),
            _work("1881", "Luncheon of the Boating Party", "游艇上的午餐", "船上的午宴"),
            _work("1880", "Little Irène", "小艾琳", "小艾琳"),
            _work("1881", "Two Sisters (On the Terrace)", "两姐妹（在露台上）", "兩姊妹（在露台上）"),
        ),
        True,
        _free(1919, "Renoir", "雷诺阿", "雷諾瓦"),
        "Paintings by Pierre-Auguste Renoir (1841-1919), public domain.",
        (
            "{trigger}, two girls reading in a garden",
            "{trigger}, a picnic by the river",
            "{trigger}, a bowl of peaches",
            "{trigger}, a woman playing the guitar",
        ),
        recommended=_PAINTED,
    ),
    StyleProject(
        "zhang-daqian",
        "Zhang Daqian (ink wash)",
        ("zhang daqian", "chang dai-chien", "ink wash", "张大千", "張大千", "水墨"),
        _three("Zhang Daqian", "张大千", "張大千"),
        _three(
            "Ink wash: splashed ink and mineral blue-green, mountains in mist, lotus, empty paper that counts.",
            "水墨：泼墨泼彩，石青石绿，云山、荷花，讲究留白。",
            "水墨：潑墨潑彩，石青石綠，雲山、荷花，講究留白。",
        ),
        "dqzhangdaqian",
        "Chinese ink wash painting",
        (12, 40),
        _three(
            "12 to 40 works with much and with little ink, landscape, lotus and figures. Cut away mounting, seals and "
            "inscriptions, or mask them: they would be learnt as part of the style.",
            "12 到 40 幅，浓墨淡墨兼有，山水、荷花、人物皆可。请裁去装裱、印章与题款，或用蒙版遮住："
            "否则会被当作画风学进去。",
            "12 到 40 幅，濃墨淡墨兼有，山水、荷花、人物皆可。請裁去裝裱、印章與題款，或用遮罩遮住："
            "否則會被當作畫風學進去。",
        ),
        (
            _work("1968", "Panorama of the Yangtze River", "长江万里图", "長江萬里圖"),
            _work("1983", "Panorama of Mount Lu", "庐山图", "廬山圖"),
            _work("1960s", "Splashed-colour landscapes", "泼彩山水", "潑彩山水"),
            _work("1940s-1970s", "Ink lotus", "墨荷", "墨荷"),
        ),
        False,
        _three(
            "Not free: Zhang Daqian died in 1983, so his works are protected in China and Taiwan to the end of 2033, "
            f"and in many countries to the end of 2053. {_OWN_PICTURES['en']}",
            "并非公有领域：张大千卒于 1983 年，作品在中国大陆与台湾受保护至 2033 年底，在许多国家至 2053 年底。"
            + _OWN_PICTURES["zh-Hans"],
            "並非公有領域：張大千卒於 1983 年，作品在中國大陸與臺灣受保護至 2033 年底，在許多國家至 2053 年底。"
            + _OWN_PICTURES["zh-Hant"],
        ),
        "Works by Zhang Daqian (1899-1983) are protected by copyright. Say here who permitted their use, and for what.",
        (
            "{trigger}, mountains in the clouds",
            "{trigger}, a lotus pond after rain",
            "{trigger}, a scholar under a pine tree",
            "{trigger}, a boat on a wide river",
        ),
        recommended=_FINE,
    ),
    StyleProject(
        "he-jiaying",
        "He Jiaying (gongbi)",
        ("he jiaying", "gongbi", "何家英", "工笔", "工筆"),
        _three("He Jiaying", "何家英", "何家英"),
        _three(
            "Gongbi: fine even lines, layered transparent colour on silk, modern women seen with calm exactness.",
            "工笔：匀净的线描，绢上层层罩染，以沉静精确的目光画当代女性。",
            "工筆：勻淨的線描，絹上層層罩染，以沉靜精確的目光畫當代女性。",
        ),
        "dqhejiaying",
        "gongbi painting",
        (12, 30),
        _three(
            "12 to 30 figure paintings at 1024 px or more, so that the lines survive; whole figures and cut-outs of "
            "heads and hands. Cut away seals and inscriptions.",
            "12 到 30 幅人物画，边长 1024 像素以上，线条才保得住；全身像与头部、手部的局部都要有。请裁去印章与题款。",
            "12 到 30 幅人物畫，邊長 1024 像素以上，線條才保得住；全身像與頭部、手部的局部都要有。請裁去印章與題款。",
        ),
        (
            _work("1984", "Mountain Girl", "山地", "山地"),
            _work("1991", "Autumn Thoughts", "秋冥", "秋冥"),
            _work("1980s-2000s", "Figure studies on silk", "绢本人物", "絹本人物"),
        ),
        False,
        _three(
            f"Not free: He Jiaying (born 1957) is living and holds the rights to his works. {_OWN_PICTURES['en']}",
            "并非公有领域：何家英（1957 年生）健在，其作品的权利归其本人所有。" + _OWN_PICTURES["zh-Hans"],
            "並非公有領域：何家英（1957 年生）健在，其作品的權利歸其本人所有。" + _OWN_PICTURES["zh-Hant"],
        ),
        "Works by He Jiaying (born 1957) are protected by copyright. Say here who permitted their use, and for what.",
        (
            "{trigger}, a young woman seated by a window",
            "{trigger}, a girl in a blue dress among autumn leaves",
            "{trigger}, two women drinking tea",
            "{trigger}, a white peony",
        ),
        recommended=_FINE,
    ),
    StyleProject(
        "hokusai",
        "Hokusai (ukiyo-e)",
        ("katsushika hokusai", "ukiyo-e", "ukiyoe", "葛饰北斋", "葛飾北齋", "北斋", "北齋", "浮世绘", "浮世繪"),
        _three("Katsushika Hokusai", "葛饰北斋", "葛飾北齋"),
        _three(
            "Woodblock print: firm outlines, flat colour with graded skies, Prussian blue, bold cuts.",
            "木版画：坚实的轮廓线，平涂与渐变的天空，普鲁士蓝，大胆的构图。",
            "木版畫：堅實的輪廓線，平塗與漸變的天空，普魯士藍，大膽的構圖。",
        ),
        "dqhokusai",
        "ukiyo-e woodblock print",
        (8, 40),
        _three(
            "8 to 40 prints of one series or several, whole, without margins, at least 512 px wide. Text boxes and "
            "seals are part of a print; mask them if the trained style is to be without.",
            "8 到 40 幅版画，一个或几个系列皆可，完整、裁去纸边，宽至少 512 像素。"
            "题框与印章是版画的一部分；若不想学进去，请用蒙版遮住。",
            "8 到 40 幅版畫，一個或幾個系列皆可，完整、裁去紙邊，寬至少 512 像素。"
            "題框與印章是版畫的一部分；若不想學進去，請用遮罩遮住。",
        ),
        (
            _work("1831", "The Great Wave off Kanagawa", "神奈川冲浪里", "神奈川沖浪裏"),
            _work("1830-1833", "Ejiri in Suruga Province", "骏州江尻", "駿州江尻"),
            _work("1830", "Kazusa Sea Route", "上总海路", "上總海路"),
            _work("1833-1834", "Poppies", "罂粟花", "罌粟花"),
            _work("1830", "Viewing Sunset over the Ryōgoku Bridge", "两国桥夕阳", "兩國橋夕陽"),
        ),
        True,
        _free(1849, "Hokusai", "葛饰北斋", "葛飾北齋"),
        "Prints by Katsushika Hokusai (1760-1849), public domain.",
        (
            "{trigger}, a great wave and a small boat",
            "{trigger}, a mountain under a red sky",
            "{trigger}, travellers on a bridge in the wind",
            "{trigger}, a cat on a roof",
        ),
        recommended=_PAINTED,
    ),
)
"""All six."""


def find_style_project(name: str) -> StyleProject:
    """The project of this key, label or alias, in any case.

    Raises:
        InvalidRequestError: If there is none; it names the nearest.

    >>> find_style_project("梵高").key, find_style_project("Van Gogh").key
    ('van-gogh', 'van-gogh')
    """
    found = match(STYLE_PROJECTS, name)
    if found is None:
        error: InvalidRequestError = unknown(STYLE_PROJECTS, name, field="recipe", what="style project")
        raise error
    return found
