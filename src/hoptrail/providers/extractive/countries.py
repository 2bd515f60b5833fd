"""Countries and what comes from them, so that 'Finnish' can answer 'from which country'."""

from __future__ import annotations

_TABLE = """
Afghanistan:Afghan|Albania:Albanian|Algeria:Algerian|Andorra:Andorran|Angola:Angolan
Argentina:Argentine,Argentinian|Armenia:Armenian|Australia:Australian|Austria:Austrian
Azerbaijan:Azerbaijani|Bahamas:Bahamian|Bahrain:Bahraini|Bangladesh:Bangladeshi|Barbados:Barbadian
Belarus:Belarusian|Belgium:Belgian|Belize:Belizean|Benin:Beninese|Bhutan:Bhutanese|Bolivia:Bolivian
Bosnia and Herzegovina:Bosnian|Botswana:Botswanan|Brazil:Brazilian|Brunei:Bruneian
Bulgaria:Bulgarian|Burkina Faso:Burkinabé|Burundi:Burundian|Cambodia:Cambodian|Cameroon:Cameroonian
Canada:Canadian|Cape Verde:Cape Verdean|Chad:Chadian|Chile:Chilean|China:Chinese|Colombia:Colombian
Costa Rica:Costa Rican|Croatia:Croatian|Cuba:Cuban|Cyprus:Cypriot|Czech Republic:Czech|Czechia:
Czechoslovakia:Czechoslovak|Denmark:Danish|Djibouti:Djiboutian|Dominican Republic:Dominican
East Timor:Timorese|Ecuador:Ecuadorian|Egypt:Egyptian|El Salvador:Salvadoran|England:English
Eritrea:Eritrean|Estonia:Estonian|Ethiopia:Ethiopian|Fiji:Fijian|Finland:Finnish|France:French
Gabon:Gabonese|Gambia:Gambian|Georgia:Georgian|Germany:German|Ghana:Ghanaian|Greece:Greek
Greenland:Greenlandic|Grenada:Grenadian|Guatemala:Guatemalan|Guinea:Guinean|Guyana:Guyanese
Haiti:Haitian|Honduras:Honduran|Hungary:Hungarian|Iceland:Icelandic|India:Indian
Indonesia:Indonesian|Iran:Iranian|Iraq:Iraqi|Ireland:Irish|Israel:Israeli|Italy:Italian
Ivory Coast:Ivorian|Jamaica:Jamaican|Japan:Japanese|Jordan:Jordanian|Kazakhstan:Kazakh|Kenya:Kenyan
Kiribati:|Kosovo:Kosovar|Kuwait:Kuwaiti|Kyrgyzstan:Kyrgyz|Laos:Laotian|Latvia:Latvian
Lebanon:Lebanese|Lesotho:Basotho|Liberia:Liberian|Libya:Libyan|Liechtenstein:Liechtensteiner
Lithuania:Lithuanian|Luxembourg:Luxembourgish|Madagascar:Malagasy|Malawi:Malawian|Malaysia:Malaysian
Maldives:Maldivian|Mali:Malian|Malta:Maltese|Mauritania:Mauritanian|Mauritius:Mauritian
Mexico:Mexican|Moldova:Moldovan|Monaco:Monégasque|Mongolia:Mongolian|Montenegro:Montenegrin
Morocco:Moroccan|Mozambique:Mozambican|Myanmar:Burmese|Namibia:Namibian|Nauru:Nauruan|Nepal:Nepalese
Netherlands:Dutch|New Zealand:New Zealander|Nicaragua:Nicaraguan|Niger:Nigerien|Nigeria:Nigerian
North Korea:North Korean|North Macedonia:Macedonian|Norway:Norwegian|Oman:Omani|Pakistan:Pakistani
Palestine:Palestinian|Panama:Panamanian|Papua New Guinea:|Paraguay:Paraguayan|Peru:Peruvian
Philippines:Filipino,Philippine|Poland:Polish|Portugal:Portuguese|Qatar:Qatari|Romania:Romanian
Russia:Russian|Rwanda:Rwandan|Samoa:Samoan|San Marino:Sammarinese|Saudi Arabia:Saudi
Scotland:Scottish|Senegal:Senegalese|Serbia:Serbian|Seychelles:|Sierra Leone:
Singapore:Singaporean|Slovakia:Slovak
Slovenia:Slovenian,Slovene|Somalia:Somali|South Africa:South African|South Korea:South Korean,Korean
South Sudan:|Soviet Union:Soviet|Spain:Spanish|Sri Lanka:Sri Lankan|Sudan:Sudanese
Suriname:Surinamese|Sweden:Swedish|Switzerland:Swiss|Syria:Syrian|Taiwan:Taiwanese|Tajikistan:Tajik
Tanzania:Tanzanian|Thailand:Thai|Togo:Togolese|Tonga:Tongan|Trinidad and Tobago:Trinidadian
Tunisia:Tunisian|Turkey:Turkish|Turkmenistan:Turkmen|Uganda:Ugandan|Ukraine:Ukrainian
United Arab Emirates:Emirati|United Kingdom:British,UK,U.K.,Great Britain
United States:American,USA,U.S.,US,United States of America|Uruguay:Uruguayan|Uzbekistan:Uzbek
Vanuatu:|Vatican City:Vatican|Venezuela:Venezuelan|Vietnam:Vietnamese|Wales:Welsh|Yemen:Yemeni
Yugoslavia:Yugoslav|Zambia:Zambian|Zimbabwe:Zimbabwean
"""


def _read(table: str) -> tuple[dict[str, str], dict[str, str]]:
    own: dict[str, str] = {}
    other: dict[str, str] = {}
    for entry in table.replace("\n", "|").strip("|").split("|"):
        country, _, adjectives = entry.partition(":")
        own[country.lower()] = country
        other.update({word.lower(): country for word in adjectives.split(",") if word})
    return own, other


_NAMES, _OTHERS = _read(_TABLE)


def is_country(text: str) -> bool:
    """Say whether a text is a country's name."""
    return _bare(text) in _NAMES


def country_of(text: str) -> str | None:
    """Give the country that a text is, or is the adjective of: 'Finnish' gives 'Finland'."""
    bare = _bare(text)
    return _NAMES.get(bare) or _OTHERS.get(bare)


def _bare(text: str) -> str:
    return text.strip(" .").lower().removeprefix("the ")
