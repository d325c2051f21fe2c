"""Which tensors each model consists of, as `files.digest_of` its tree.

A file of weights with just these needs no trace of the networks to be checked, which takes a second of every start.
tests/trackers/weights/test_trees.py compares them with the networks, and prints what belongs here.
"""

DIGESTS = {
    "atom": "fa4284e1c34858a2641968f9cf91b233974eaa1ec125a729dadd36e275a7b0b3",
    "atom_multiscale": "67950a242845281982b658ce5f80924c7da90e9bebb5736ef42c5bca054579db",
    "atom_multiscale_small": "f005f6275557e8760b0b2a35e1a64c2d4396980957587f129563fbbbac756388",
    "dimp18": "209b8cf8d04c663b9857661f93a8db9aaa0aa75148dd7866b18bf59f30677586",
    "dimp50": "86f4bac752d57ae26179ad822329bbf3cba4879b0bb33f97b40faaf1e66f085e",
    "dimp_tiny": "e9ad856ab9352fea00adb6898d446ddc15e9fc7742595c13d3d019453fc22385",
    "resnet50": "51d8a34ce4aa620ae0d70cd7b2194f775c4606af63509553cae7452499d5d8ef",
    "resnet50_v1": "51d8a34ce4aa620ae0d70cd7b2194f775c4606af63509553cae7452499d5d8ef",
    "mobilenetv2": "66471eba853db8309942c1008907550804692554d64f6a50448ef5aefe6f602b",
    "siamfc": "a26659a60a615650c60a79d8cdcc0c10ce90bbd40511dadd5d6d676947a47431",
    "siamfc_distilled": "7887f9ad7fce58859eed3e981fd9b45c31bb85d463a2c7fd0663f4221cb1ba01",
    "siamrpn": "3e8228bf45194c68292abfcf13ee82e986c7c3513f0464868dbeeddf2e0d3269",
    "siamrpn_distilled": "a7e2de851ddb837f9e17f91eb9d4631b856c11844be5401516db437b939c9a03",
    "siamrpn_big": "7a7f92314b6492375eede8e0e04dc1b5b57af8629cc88b6a1d70ed0bb68cd03f",
    "siamrpnpp_alexnet": "cc677a10bc32e338698f2b84a577754558daa6e60f212b9e55b93dd2188feb99",
    "siamrpnpp_mobilenetv2": "a81d39a99790a974e0744faca8f6a1c336e4051a8c764b865a2860b9c8e3717a",
    "siamrpnpp_mobilenetv2_1.0": "558e0bfb504334e5e82187df41c533e2051f5212da556a84fec47dff996f4171",
    "siamrpnpp_resnet50": "3d48c25ac6811cf3e51b36a61b81e4cb6e5c206d91a04cf8b4de216163fbfa17",
    "siamrpnpp_resnet50_otb": "494770377fb07c01ededad8a25b230624d66a9f9a8df8399398e84015c586ee9",
    "siamrpnpp_resnet50_lt": "894ea9bcd96144d5f1fba9499252d710ecf9de52e78be84414bfa2e3b5e7b7a7",
    "memtrack": "ff07d92ade945edcaeaf66e52b00caaee6fec683855d88153a2eed427bd6f03c",
    "distilled_resnet16": "ff45e66799dcc27bb5c31fb6e553fdc4d9b088b1fa67b17c9d463d6bd31d7af8",
    "distilled_alexnet": "822f834fa865f644dbe22daacf99985abf9bd57b4c1c30c97dc69fe1fec3b93a",
}
