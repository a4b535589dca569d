package hospital

// code is an entry of one of the hospital's catalogues. Tokens are what a search by code compares with: the code itself
// and the wider codes that contain it (category, block, chapter).
type code struct {
	code, display string
	tokens        []string
	sex           byte // 'f', 'm', or 0: both
	from, to      int  // ages in years at which it occurs
	weight        int
	drug          int // index in drugs; -1: none
	mean, spread  int // of a laboratory value, in hundredths
	unit          string
}

type diagnosis struct {
	code, display, block, chapter string
	sex                           byte
	from, to, weight, drug        int
	chronic                       bool
}

// Codes of systems, as the front-ends' configurations name them.
const (
	SystemICD10 = "https://smt.esante.gouv.fr/terminologie-cim-10/"
	SystemATC   = "https://terminology.eds.aphp.fr/atc"
	SystemANABI = "https://terminology.eds.aphp.fr/aphp-itm-anabio"
	SystemCCAM  = "https://smt.esante.gouv.fr/terminologie-ccam/"
	SystemGHM   = "https://terminology.eds.aphp.fr/aphp-orbis-ghm"
)

var diagnoses = []diagnosis{
	{"I10", "Hypertension essentielle", "I10-I15", "IX", 0, 40, 110, 14, 0, true},
	{"E119", "Diabète sucré de type 2, sans complication", "E10-E14", "IV", 0, 35, 110, 9, 1, true},
	{"E112", "Diabète sucré de type 2, avec complications rénales", "E10-E14", "IV", 0, 50, 110, 3, 2, true},
	{"E109", "Diabète sucré de type 1, sans complication", "E10-E14", "IV", 0, 3, 110, 2, 2, true},
	{"E780", "Hypercholestérolémie essentielle", "E70-E90", "IV", 0, 35, 110, 8, 3, true},
	{"E669", "Obésité", "E65-E68", "IV", 0, 12, 90, 6, -1, true},
	{"I48", "Fibrillation et flutter auriculaires", "I30-I52", "IX", 0, 55, 110, 5, 4, true},
	{"I500", "Insuffisance cardiaque congestive", "I30-I52", "IX", 0, 60, 110, 4, 5, true},
	{"I251", "Cardiopathie athéroscléreuse", "I20-I25", "IX", 0, 50, 110, 5, 6, true},
	{"J459", "Asthme", "J40-J47", "X", 0, 3, 90, 6, 7, true},
	{"J449", "Maladie pulmonaire obstructive chronique", "J40-J47", "X", 0, 45, 110, 4, 7, true},
	{"N189", "Maladie rénale chronique", "N17-N19", "XIV", 0, 45, 110, 4, -1, true},
	{"F329", "Épisode dépressif", "F30-F39", "V", 0, 15, 110, 5, 8, true},
	{"F419", "Trouble anxieux", "F40-F48", "V", 0, 12, 110, 4, -1, true},
	{"G409", "Épilepsie", "G40-G47", "VI", 0, 1, 100, 2, 9, true},
	{"G309", "Maladie d'Alzheimer", "G30-G32", "VI", 0, 65, 110, 2, -1, true},
	{"C509", "Tumeur maligne du sein", "C50", "II", 'f', 35, 100, 4, 10, true},
	{"C61", "Tumeur maligne de la prostate", "C60-C63", "II", 'm', 50, 105, 4, -1, true},
	{"C349", "Tumeur maligne des bronches ou du poumon", "C30-C39", "II", 0, 45, 100, 2, 11, true},
	{"C189", "Tumeur maligne du côlon", "C15-C26", "II", 0, 45, 105, 2, 11, true},
	{"M069", "Polyarthrite rhumatoïde", "M05-M14", "XIII", 0, 25, 100, 2, 12, true},
	{"K509", "Maladie de Crohn", "K50-K52", "XI", 0, 12, 80, 1, -1, true},
	{"J189", "Pneumopathie", "J09-J18", "X", 0, 0, 110, 7, 13, false},
	{"N390", "Infection des voies urinaires", "N30-N39", "XIV", 0, 0, 110, 6, 13, false},
	{"A099", "Gastroentérite", "A00-A09", "I", 0, 0, 110, 5, -1, false},
	{"S720", "Fracture du col du fémur", "S70-S79", "XIX", 0, 60, 110, 3, 14, false},
	{"S525", "Fracture de l'extrémité inférieure du radius", "S50-S59", "XIX", 0, 4, 100, 4, 14, false},
	{"K359", "Appendicite aiguë", "K35-K38", "XI", 0, 4, 60, 3, 13, false},
	{"K802", "Calcul de la vésicule biliaire", "K80-K87", "XI", 0, 25, 95, 3, 14, false},
	{"I639", "Infarctus cérébral", "I60-I69", "IX", 0, 50, 110, 3, 6, false},
	{"I219", "Infarctus aigu du myocarde", "I20-I25", "IX", 0, 40, 110, 3, 6, false},
	{"O800", "Accouchement spontané par présentation du sommet", "O80-O84", "XV", 'f', 17, 46, 9, -1, false},
	{"J210", "Bronchiolite aiguë", "J20-J22", "X", 0, 0, 2, 40, -1, false},
	{"T784", "Allergie", "T66-T78", "XIX", 0, 0, 90, 3, -1, false},
	{"R074", "Douleur thoracique", "R00-R09", "XVIII", 0, 18, 105, 6, -1, false},
	{"R509", "Fièvre", "R50-R69", "XVIII", 0, 0, 100, 4, -1, false},
	{"Z098", "Examen de contrôle", "Z00-Z13", "XXI", 0, 0, 110, 8, -1, false},
	{"X600", "Auto-intoxication volontaire", "X60-X84", "XX", 0, 13, 90, 1, -1, false},
}

var (
	conditionCodes = diagnosisCodes()
	chronicCodes   = lasting(true)
	acuteCodes     = lasting(false)
)

func diagnosisCodes() []code {
	all := make([]code, len(diagnoses))
	for i, d := range diagnoses {
		all[i] = code{code: d.code, display: d.display, tokens: []string{d.code, d.code[:3], d.block, d.chapter},
			sex: d.sex, from: d.from, to: d.to, weight: d.weight, drug: d.drug}
	}
	return all
}

// lasting lists the indexes of the diagnoses that last, or of those that pass.
func lasting(chronic bool) []int {
	var picked []int
	for i, d := range diagnoses {
		if d.chronic == chronic {
			picked = append(picked, i)
		}
	}
	return picked
}

func coded(entries ...[2]string) []code {
	all := make([]code, len(entries))
	for i, e := range entries {
		all[i] = code{code: e[0], display: e[1], tokens: []string{e[0]}}
	}
	return all
}

// drugs have ATC codes; the levels above are the prefixes of 1, 3, 4 and 5 characters.
var drugs = func() []code {
	all := coded([2]string{"C09AA05", "Ramipril"}, [2]string{"A10BA02", "Metformine"}, [2]string{"A10AE04", "Insuline glargine"},
		[2]string{"C10AA05", "Atorvastatine"}, [2]string{"B01AF02", "Apixaban"}, [2]string{"C03CA01", "Furosémide"},
		[2]string{"B01AC06", "Acide acétylsalicylique"}, [2]string{"R03AC02", "Salbutamol"}, [2]string{"N06AB06", "Sertraline"},
		[2]string{"N03AX14", "Lévétiracétam"}, [2]string{"L02BA01", "Tamoxifène"}, [2]string{"L01XA02", "Carboplatine"},
		[2]string{"L04AX03", "Méthotrexate"}, [2]string{"J01CR02", "Amoxicilline et acide clavulanique"},
		[2]string{"N02BE01", "Paracétamol"})
	for i := range all {
		c := all[i].code
		all[i].tokens = []string{c, c[:5], c[:4], c[:3], c[:1]}
	}
	return all
}()

var procedureCodes = coded([2]string{"ZBQK002", "Radiographie du thorax"}, [2]string{"DEQP003", "Électrocardiographie"},
	[2]string{"DZQM006", "Échographie-doppler du cœur"}, [2]string{"HFFC002", "Gastrectomie"}, [2]string{"HHFA016", "Appendicectomie"},
	[2]string{"HMFC004", "Cholécystectomie"}, [2]string{"NEKA020", "Remplacement de la hanche"}, [2]string{"JQGD010", "Accouchement"},
	[2]string{"ACQN001", "IRM du crâne"}, [2]string{"HHQE002", "Coloscopie"}, [2]string{"QEFA004", "Mastectomie partielle"},
	[2]string{"JVJF004", "Hémodialyse"})

var claimCodes = coded([2]string{"05M092", "Insuffisances cardiaques, niveau 2"}, [2]string{"04M053", "Pneumonies, niveau 3"},
	[2]string{"14Z13A", "Accouchements uniques par voie basse"}, [2]string{"06C091", "Appendicectomies, niveau 1"},
	[2]string{"08C481", "Prothèses de hanche, niveau 1"}, [2]string{"10M022", "Diabète, niveau 2"},
	[2]string{"28Z14Z", "Traitements pour tumeurs, en séances"}, [2]string{"23M20T", "Autres symptômes, très courte durée"})

var labs = []code{
	{code: "A0141", tokens: []string{"A0141"}, display: "Glucose", mean: 530, spread: 90, unit: "mmol/L"},
	{code: "A0163", tokens: []string{"A0163"}, display: "Hémoglobine glyquée", mean: 560, spread: 60, unit: "%"},
	{code: "A0094", tokens: []string{"A0094"}, display: "Créatinine", mean: 7800, spread: 1900, unit: "µmol/L"},
	{code: "A0248", tokens: []string{"A0248"}, display: "Potassium", mean: 410, spread: 40, unit: "mmol/L"},
	{code: "A0250", tokens: []string{"A0250"}, display: "Sodium", mean: 13950, spread: 280, unit: "mmol/L"},
	{code: "B9559", tokens: []string{"B9559"}, display: "Hémoglobine", mean: 1340, spread: 170, unit: "g/dL"},
	{code: "A0174", tokens: []string{"A0174"}, display: "Leucocytes", mean: 740, spread: 240, unit: "10*9/L"},
	{code: "A0230", tokens: []string{"A0230"}, display: "Plaquettes", mean: 25000, spread: 6500, unit: "10*9/L"},
	{code: "A0247", tokens: []string{"A0247"}, display: "Protéine C réactive", mean: 1900, spread: 1800, unit: "mg/L"},
	{code: "A0100", tokens: []string{"A0100"}, display: "Cholestérol total", mean: 510, spread: 100, unit: "mmol/L"},
}

var documentTypes = []code{
	{code: "crh-s", display: "Compte rendu d'hospitalisation", tokens: []string{"crh-s"}},
	{code: "cr-consult", display: "Compte rendu de consultation", tokens: []string{"cr-consult"}},
	{code: "cr-opera", display: "Compte rendu opératoire", tokens: []string{"cr-opera"}},
	{code: "ordonnance", display: "Ordonnance", tokens: []string{"ordonnance"}},
	{code: "doc-impor", display: "Document importé", tokens: []string{"doc-impor"}},
}

var modalities = coded([2]string{"CT", "Scanner"}, [2]string{"MR", "IRM"}, [2]string{"CR", "Radiographie"}, [2]string{"US", "Échographie"})

// Small catalogues: an index in them is a Status, Category or Source of a record.
var (
	encounterClasses  = coded([2]string{"hosp", "Hospitalisation"}, [2]string{"urg", "Urgences"}, [2]string{"ext", "Externe"}, [2]string{"hdj", "Hôpital de jour"})
	encounterStatuses = coded([2]string{"finished", ""}, [2]string{"in-progress", ""}, [2]string{"cancelled", ""})
	admissionModes    = coded([2]string{"dom", "Domicile"}, [2]string{"mut", "Mutation"}, [2]string{"trf", "Transfert"})
	dischargeModes    = coded([2]string{"dom", "Domicile"}, [2]string{"trf", "Transfert"}, [2]string{"dcd", "Décès"})
	diagnosisTypes    = coded([2]string{"dp", "Diagnostic principal"}, [2]string{"das", "Diagnostic associé"})
	sources           = coded([2]string{"AREM", ""}, [2]string{"ORBIS", ""})
	observationStates = coded([2]string{"Val", "Validé"}, [2]string{"Pre", "Préliminaire"})
	prescriptionTypes = coded([2]string{"hosp", "Hospitalisation"}, [2]string{"sortie", "Sortie"})
	routes            = coded([2]string{"po", "Orale"}, [2]string{"iv", "Intraveineuse"}, [2]string{"sc", "Sous-cutanée"})
	documentStates    = coded([2]string{"final", ""}, [2]string{"preliminary", ""})
)

var families = []string{"Abélie", "Bruyère", "Camomille", "Dahlia", "Églantine", "Fougère", "Glycine", "Hortensia", "Iris", "Jonquille",
	"Lavande", "Muguet", "Narcisse", "Œillet", "Pivoine", "Renoncule", "Sauge", "Tulipe", "Valériane", "Zinnia", "Bleuet", "Cyprès",
	"Garance", "Mimosa"}

var givenFemale = []string{"Amandine", "Brune", "Claire", "Delphine", "Élise", "Flora", "Garance", "Hélène", "Inès", "Jeanne", "Lise", "Manon"}

var givenMale = []string{"Adrien", "Basile", "Cyprien", "David", "Émile", "Félix", "Gaspard", "Hugo", "Ivan", "Jules", "Léon", "Marius"}
